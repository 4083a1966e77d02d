"""The verdict on code edits: pairs, noise, gates, repairs, repeats; and that it follows from the journal alone."""

import pytest

from orchestrator.core import edits
from orchestrator.core.contract import MetricRule, RegimeRule
from orchestrator.core.records import Metric
from orchestrator.core.state import fold
from tests.edited import again, change, edit, propose
from tests.factory import Driver, contract

LR = "training.learning_rate_W_start"


def made(sd=None, **fields):
    """A baseline 0.5 as node 1; with `sd`, an unrelated node whose replicates give that noise."""
    driver = Driver(contract(n_iter_block=40, replicate_every=0, **fields))
    driver.put(0.5)
    if sd is not None:
        other = driver.put(0.1, parent=1, changes=[(LR, 1e-3)])
        driver.put(0.1 + sd * 2**0.5, of=other, seeds=(8, 42))
    return driver


def verdict(driver, node, **options):
    return edits.judged(driver.state, driver.state.nodes[node], **options)


@pytest.mark.parametrize(
    ("sd", "value", "expected", "sentence"),
    [
        (0.01, 0.53, "keep", "keep (provisional, n=1): connectivity_R2 0.5300 against 0.5000 of node 1 at the same "
         "seed, +0.0300, noise sd 0.0100"),
        (0.01, 0.52, "open", "open (n=1): connectivity_R2 0.5200 against 0.5000 of node 1 at the same seed, +0.0200, "
         "noise sd 0.0100, within noise; missing for the next pair: node 4 at training seed 8"),
        (0.01, 0.47, "worse", "worse (provisional, n=1): connectivity_R2 0.4700 against 0.5000 of node 1 at the same "
         "seed, -0.0300, noise sd 0.0100"),
        (None, 0.504, "keep", "keep (provisional, n=1): connectivity_R2 0.5040 against 0.5000 of node 1 at the same "
         "seed, +0.0040, noise not measured (0.001 taken)"),
        (None, 0.502, "open", "open (n=1): connectivity_R2 0.5020 against 0.5000 of node 1 at the same seed, +0.0020, "
         "noise not measured (0.001 taken), within noise; missing for the next pair: node 2 at training seed 8"),
    ],
)  # fmt: skip
def test_one_pair_is_judged_by_the_noise_of_a_difference(sd, value, expected, sentence):
    driver = made(sd)
    node = edit(driver, value)
    found = verdict(driver, node)
    assert (found.verdict, found.sentence) == (expected, sentence)
    assert found.n == 1 and found.provisional and found.difference == pytest.approx(value - 0.5)
    assert found.noise == pytest.approx(sd)


def test_more_pairs_narrow_the_noise_and_three_within_it_are_neutral():
    driver = made(0.02)  # one pair: 0.0566, two: 0.04, three: 0.0327
    node = edit(driver, 0.55)
    assert verdict(driver, node).wanted == (node, 8)
    again(driver, node, 0.58, 8)
    assert verdict(driver, node).wanted == (1, 8) and verdict(driver, node).n == 1
    again(driver, 1, 0.53, 8)
    found = verdict(driver, node)
    assert (found.verdict, found.n, found.provisional, found.wanted) == ("keep", 2, False, None)
    assert "at the same 2 seeds, +0.0500" in found.sentence
    driver = made(0.02)
    node = edit(driver, 0.51)
    for i, verdicts in enumerate(("open", "neutral")):
        again(driver, node, 0.51, 8 + i)
        again(driver, 1, 0.5, 8 + i)
        assert verdict(driver, node).verdict == verdicts
    found = verdict(driver, node)
    assert (found.n, found.provisional, found.wanted) == (3, False, None)


def test_the_wanted_run_is_of_the_child_where_the_parent_has_run():
    driver = made()
    driver.put(0.5, of=1, seeds=(21, 42))
    driver.put(0.5, of=1, seeds=(30, 99))  # another draw makes pairs, and is not asked for
    node = edit(driver, 0.5)
    assert verdict(driver, node).wanted == (node, 21)
    again(driver, node, 0.5, 21)
    assert verdict(driver, node).wanted == (node, 31)


def test_a_run_under_way_is_not_wanted_twice():
    driver = made()
    node = propose(driver, change())
    found = verdict(driver, node)
    assert (found.verdict, found.wanted, found.n) == ("open", None, 0) and found.sentence.startswith("open: ")
    driver.end(node, 0.5)
    driver.put(0.5, of=1, seeds=(8, 42))
    again(driver, node, None, 8, outcome="killed")  # to be run again: open
    assert driver.state.iterations[4].final is None
    assert verdict(driver, node).wanted is None
    driver.end(4, outcome="killed")  # for good: says nothing
    assert verdict(driver, node).verdict == "open" and verdict(driver, node).wanted == (node, 9)


def test_no_run_is_wanted_of_a_block_that_is_over():
    driver = Driver(contract(n_iter_block=2, replicate_every=0))
    driver.put(0.5)
    node = edit(driver, 0.5)
    assert verdict(driver, node).verdict == "open" and verdict(driver, node).wanted is None


@pytest.mark.parametrize(
    ("rule", "value", "expected", "told"),
    [
        ({"direction": "min"}, 0.4, "keep", "better by 0.1000 (less is best)"),
        ({"direction": "min"}, 0.6, "worse", "worse by 0.1000"),
        ({"direction": "target", "target": 1.0}, 0.6, "keep", "better by 0.1000 (1 is best)"),
    ],
)
def test_better_is_by_the_metrics_direction(rule, value, expected, told):
    driver = made(metrics=(MetricRule(name="connectivity_R2", role="primary", **rule),))
    found = verdict(driver, edit(driver, value))
    assert found.verdict == expected and told in found.sentence
    assert (found.difference > 0) is (expected == "keep")


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [("crashed", "crashed"), ("diverged", "worse"), ("timed_out", "worse"), ("rejected", "worse")],
)
def test_a_run_that_ends_badly_decides(outcome, expected):
    driver = made()
    node = edit(driver, outcome=outcome, ended={"sentence": "NameError:\n  scale " + "x" * 500})
    found = verdict(driver, node)
    assert (found.verdict, found.provisional, found.n, found.wanted) == (expected, False, 0, None)
    assert (
        found.sentence.startswith(expected) and "iteration 2" in found.sentence and "NameError: scale" in found.sentence
    )
    assert (outcome in found.sentence) and len(found.sentence) < 300
    node = edit(driver, 0.9)
    again(driver, node, None, 8, outcome=outcome)
    assert verdict(driver, node).verdict == expected


def test_without_the_metric_it_is_worse():
    driver = made()
    node = propose(driver, change())
    driver.end(node, Metric(value=None, reason="nan"))
    assert verdict(driver, node).sentence == "worse: iteration 2 gave no connectivity_R2 (nan)"


def test_out_of_memory_is_worse_once_it_is_for_good():
    driver = made()
    node = edit(driver, outcome="out_of_memory")
    assert verdict(driver, node).verdict == "open"
    driver.end(node, outcome="out_of_memory")
    assert verdict(driver, node).verdict == "worse"


def test_what_the_parent_suffers_too_is_not_the_edits_fault():
    driver = made()
    driver.put(None, of=1, seeds=(8, 42), outcome="diverged")
    node = edit(driver, 0.9)
    again(driver, node, None, 8, outcome="diverged")
    assert verdict(driver, node).verdict == "keep"
    again(driver, node, None, 9, outcome="diverged")
    assert verdict(driver, node).verdict == "worse"


def test_an_edit_of_a_node_without_a_result_is_kept_for_having_one():
    driver = Driver(contract(n_iter_block=40))
    driver.put(outcome="diverged")
    found = verdict(driver, edit(driver, 0.5))
    assert found.verdict == "keep" and found.provisional and "node 1 has no result (diverged)" in found.sentence


def test_pairs_are_of_one_idea_whatever_block_and_of_one_regime():
    regimes = tuple(RegimeRule(name=n, values={"simulation.n_neurons": 10}) for n in ("one", "two"))
    for declared, n in (((), 2), (regimes, 1)):
        driver = Driver(contract(n_iter_block=2, replicate_every=0, regimes=declared))
        driver.put(0.5)
        node = edit(driver, 0.9)
        first = driver.put(0.5, seeds=(8, 42))  # in the next block the same config, the same code and the same edit
        driver.end(propose(driver, change(), first, seeds=(8, 42), tree=driver.state.nodes[node].code), 0.9)
        assert driver.state.nodes[node].idea == driver.state.nodes[4].idea
        assert verdict(driver, node).n == verdict(driver, 4).n == n


def test_what_happens_on_another_draw_decides_nothing():
    driver = made()
    node = edit(driver, 0.9)
    again(driver, node, None, 7, 43, outcome="crashed")
    assert verdict(driver, node).verdict == "keep"


def test_a_child_of_root_has_nothing_to_be_compared_with():
    driver = made()
    node = edit(driver, 0.9, parent=None)
    assert verdict(driver, node).verdict == "open" and verdict(driver, node).wanted is None


def gated(child, parent=(1.0,), spread=0.01, rule=None, **fields):
    rule = rule or MetricRule(name="test_R2", role="secondary")
    driver = Driver(contract(n_iter_block=40, metrics=(contract().metrics[0], rule)))
    driver.put(0.5, metrics={rule.name: 0.9}, **fields)
    other = driver.put(0.1, parent=1, changes=[(LR, 1e-3)], metrics={rule.name: 0.5})
    if spread:
        driver.put(0.1, of=other, seeds=(8, 42), metrics={rule.name: 0.5 + spread * 2**0.5})
    node = edit(driver, 0.6, metrics={rule.name: child})
    return verdict(driver, node)


def test_a_gain_that_another_metric_pays_for_is_neutral():
    found = gated(0.86)
    assert (found.verdict, found.provisional) == ("neutral", True)
    assert "not kept for that: test_R2 got worse by 0.0400, its noise sd is 0.0100" in found.sentence
    assert gated(0.88).verdict == "keep" and gated(0.99).verdict == "keep" and gated(None).verdict == "keep"
    assert gated(0.5, spread=0).verdict == "keep"  # its noise is not measured
    less = MetricRule(name="final_loss", role="secondary", direction="min")
    assert gated(0.94, rule=less).verdict == "neutral" and gated(0.5, rule=less).verdict == "keep"
    told = MetricRule(name="training_time_min", role="secondary", direction="min")
    assert gated(500.0, rule=told).verdict == "keep"  # by the node's own clock


@pytest.mark.parametrize(
    ("child", "parent", "expected"),
    [
        ((160.0, 1.0), (100.0, 1.2), "neutral"),
        ((140.0, 1.0), (100.0, 1.0), "keep"),
        ((160.0, 2.0), (100.0, 1.0), "keep"),
        ((160.0, None), (100.0, 1.0), "keep"),
        ((4.0, 1.0), (1.0, 1.0), "keep"),
    ],
)
def test_a_gain_that_costs_too_much_time_is_neutral(child, parent, expected):
    driver = Driver(contract(n_iter_block=40))
    node = driver.put(0.5)
    final = driver.state.iterations[node].final
    driver.state.iterations[node].final = final.model_copy(update={"seconds": parent[0], "in_flight": parent[1]})
    found = verdict(driver, edit(driver, 0.6, ended={"seconds": child[0], "in_flight": child[1]}))
    assert found.verdict == expected
    assert (expected == "neutral") is ("1.6 times as long (160 s against 100 s)" in found.sentence)


# Repairs and repeats


def waiting(driver):
    return [it.proposal.iteration for it in edits.awaiting_repair(driver.state)]


def test_a_crashed_edit_may_be_mended_twice():
    driver = made()
    assert waiting(driver) == []
    first = edit(driver, outcome="crashed")
    assert waiting(driver) == [2] and edits.repairs_left(driver.state, 2) == 2
    second = edit(driver, outcome="crashed", repairs=first)
    assert waiting(driver) == [3] and edits.repairs_left(driver.state, 3) == 1
    third = edit(driver, outcome="crashed", repairs=second)
    assert waiting(driver) == [] and edits.repairs_left(driver.state, third) == 0
    assert [edits.root_of(driver.state, i) for i in (first, second, third)] == [2, 2, 2]
    assert edits.repaired_by(driver.state, first) == second and edits.repaired_by(driver.state, third) is None


def test_a_crashed_edit_is_given_up_by_a_new_one_and_by_the_blocks_end():
    driver = made()
    edit(driver, outcome="crashed")
    driver.put(0.6, parent=1, changes=[(LR, 1e-2)])
    beside = propose(driver, change("b"))
    assert waiting(driver) == []
    driver = made()
    first, beside = propose(driver, change("a")), propose(driver, change("b"))  # two slots
    driver.end(first, outcome="crashed")
    driver.end(beside, outcome="crashed")
    assert waiting(driver) == [first, beside]
    edit(driver, 0.6, repairs=first)
    assert waiting(driver) == [beside]
    driver = Driver(contract(n_iter_block=2))
    driver.put(0.5)
    edit(driver, outcome="crashed")
    assert waiting(driver) == []


def test_only_a_crash_is_mended():
    driver = made()
    edit(driver, outcome="diverged")
    driver.put(outcome="crashed", parent=1, changes=[(LR, 1e-2)])
    assert waiting(driver) == []


def test_a_repeat_is_told_the_old_result():
    driver = made()
    edit(driver, 0.4, name="bad")
    edit(driver, 0.6, name="good")
    edit(driver, 0.5, name="open")
    sha = {name: change(name).sha for name in ("bad", "good", "open", "new")}
    told = edits.repeat(driver.state, sha["bad"], 1, 1)
    assert told.startswith("the same edit was tried: node 2 is worse (provisional, n=1): connectivity_R2 0.4000")
    assert "tried on node 1: " in edits.repeat(driver.state, sha["bad"], 3, 1)
    assert [edits.repeat(driver.state, sha[n], 1, 1) for n in ("good", "open", "new")] == [None] * 3
    edit(driver, 0.9, name="bad", parent=3)
    assert edits.repeat(driver.state, sha["bad"], 1, 1) is None  # it helped elsewhere


def test_a_crash_is_repeated_while_it_may_be_mended_only():
    driver = made()
    edit(driver, outcome="crashed", name="bad", ended={"sentence": "NameError"})
    assert edits.repeat(driver.state, change("bad").sha, 1, 1) is None
    edit(driver, 0.6, name="next")
    assert "node 2 is crashed: iteration 2: NameError" in edits.repeat(driver.state, change("bad").sha, 1, 1)


def test_a_repeat_in_another_regime_is_no_repeat():
    regimes = tuple(RegimeRule(name=n, values={"simulation.n_neurons": v}) for n, v in (("small", 10), ("big", 20)))
    driver = Driver(contract(n_iter_block=2, regimes=regimes))
    driver.put(0.5)
    edit(driver, 0.4, name="bad")
    sha = change("bad").sha
    assert [bool(edits.repeat(driver.state, sha, None, block)) for block in (1, 2, 3)] == [True, False, True]
    assert [n.id for n in edits.falsified(driver.state)] == [2]


# From the journal alone


def long_journal():
    driver = made(0.02)
    node = edit(driver, 0.51)
    crashed = edit(driver, outcome="crashed")
    again(driver, node, 0.52, 8)
    edit(driver, 0.6, repairs=crashed)
    again(driver, 1, 0.5, 8)
    driver.put(0.7, parent=1, changes=[(LR, 1e-2)])
    again(driver, node, 0.5, 9)
    again(driver, 1, 0.55, 9)
    again(driver, 7, 0.3, 8)
    return driver


def test_the_verdict_up_to_an_event_is_that_of_the_journal_up_to_it():
    driver = long_journal()
    seen = set()
    for end in range(1, len(driver.events) + 1):
        state = fold(driver.state.contract, driver.events[:end])
        for node in edits.code_nodes(state):
            found = edits.judged(state, node)
            assert found == edits.judged(driver.state, driver.state.nodes[node.id], until=end)
            seen.add((node.id, found.verdict, found.n, found.wanted))
    assert {(v, n) for i, v, n, _ in seen if i == 4} == {("open", 0), ("open", 1), ("open", 2), ("neutral", 3)}
    assert {(v, n) for i, v, n, _ in seen if i == 7} == {("open", 0), ("keep", 1), ("open", 2)}


def test_nodes_that_have_nothing_to_do_with_it_change_nothing():
    driver = long_journal()
    before = [verdict(driver, n.id) for n in edits.code_nodes(driver.state)]
    for i in range(4):
        driver.put(0.2 * i, parent=1, changes=[(LR, 4e-3 + i * 1e-3)])
        edit(driver, 0.3 + i / 10, parent=driver.state.last_iteration)
    driver.put(None, parent=1, changes=[("training.batch_size", 16)], outcome="crashed")
    after = [verdict(driver, found.node) for found in before]
    assert after == before and len(before) == 3
