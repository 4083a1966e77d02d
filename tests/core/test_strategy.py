"""Each row of the seeds' tables: a journal in which it holds, and one in which it just does not."""

import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator.core import strategy
from orchestrator.core.contract import Condition, Gap, VerdictRule
from orchestrator.core.scene import floor
from orchestrator.core.strategy_kinds import KINDS
from orchestrator.core.strategy_rows import read_row
from tests.edited import again, change, edit, propose
from tests.factory import START, Driver, contract

LR, BATCH, L1 = "training.learning_rate_W_start", "training.batch_size", "training.coeff_W_L1"
LRS = [3e-3, 1e-3, 2e-3, 4e-3, 5e-3, 6e-3, 7e-3, 8e-3, 9e-3, 1e-2, 1e-4, 2e-4, 5e-4]
METRICS = {m: m for m in ("connectivity_R2", "test_R2", "rate_constants_R2")}


def start(name, condition, **fields):
    fields = {"n_iter_block": 12, "replicate_every": 0} | fields
    return Driver(contract(strategies=(read_row(name, condition, "act", METRICS.get),), **fields))


def chain(driver, *values, **fields):
    """A chain from the start, each a child of the one before with the next learning rate; None is a crash."""
    for value in values:
        last = driver.state.last_iteration
        parent = max(driver.state.nodes) if driver.state.nodes else None
        changes = [(LR, LRS[last])] if parent else ()
        driver.put(value, parent=parent, changes=changes, outcome="ok" if value is not None else "crashed", **fields)


def star(driver, *values, keys=(LR,)):
    """Children of node 1, with different keys in turn."""
    steps = {LR: LRS, BATCH: [8, 16, 32], L1: [1e-5, 1e-4, 1e-6, 1e-7]}
    for i, value in enumerate(values):
        key = keys[i % len(keys)]
        driver.put(value, parent=1, changes=[(key, steps[key][1 + i // len(keys)])])


def recombined(driver, first, second, same=False):
    driver.put(0.5)
    driver.put(first, parent=1, changes=[(LR, 1e-2)])
    driver.put(second, parent=2 if same else 1, changes=[(L1, 1e-4)])


def replicated(driver, *values):
    driver.put(0.5)
    for i, value in enumerate(values):
        driver.put(value, of=1, seeds=(8 + i, 42))


def batches(driver, *values):
    driver.put(0.9)
    star(driver, *values, keys=(LR, L1, BATCH))


def blocks(driver, *bests):
    for best in bests:
        first = driver.put(0.1)
        driver.put(best, parent=first, changes=[(LR, 1e-3)])


def probes(driver, *values):
    driver.put(0.5)
    for i, value in enumerate(values):
        driver.put(value, parent=1, changes=[(LR, LRS[i + 1])], strategy="failure-probe")


def recipe(driver, *values):
    """Node 2 against the baseline 0.5, at training seeds 7, 8, ..."""
    driver.put(0.5)
    for i, value in enumerate(values):
        driver.put(value, **({"of": 2} if i else {"parent": 1, "changes": [(LR, 1e-2)]}), seeds=(7 + i, 42))


def coded(driver, *values, parent=0.5, more=()):
    """Edits of node 1's code, one after the other; None is a crash, `more` are (node, value, seed) to be run again."""
    driver.put(parent)
    for value in values:
        edit(driver, value, outcome="ok" if value is not None else "crashed")
    for node, value, seed in more:
        again(driver, node, value, seed)


def undecided(driver, *values):
    """A plateau of configs beside a code edit of node 1, which is in flight while its value is None."""
    driver.put(values[0])
    number = propose(driver, change(), strategy="exploit")
    if values[1] is not None:
        driver.end(number, values[1])
    for key, new, value in zip((LR, L1, LR, L1), (1e-3, 1e-4, 2e-3, 1e-6), values[2:], strict=True):
        driver.put(value, parent=1, changes=[(key, new)])


def neutral(driver, *values, then=None, combined=False, parents=(1, 1)):
    """Edits of nodes, each run three times beside its parent; `then` is the value of a change of config at the end."""
    driver.put(0.5)
    for seed in (8, 9):
        driver.put(0.5, of=1, seeds=(seed, 42))
    for value, parent in zip(values, parents, strict=True):
        node = edit(driver, value, parent=parent)
        for seed in (8, 9):
            again(driver, node, value, seed)
    if combined:
        edit(driver, 0.5, combines=(4, 7))
    if then is not None:
        driver.put(then, parent=1, changes=[(LR, 1e-2)])


def codes(driver, *values):
    driver.put(0.5)
    for i, value in enumerate(values):
        edit(driver, value, parent=i + 1, strategy="exploit")


def gaps(driver, *pairs):
    for dynamics, mechanism in pairs:
        chain(driver, mechanism, metrics={"test_R2": dynamics})


def metered(driver, *triples):
    for primary, slope, clusters in triples:
        chain(driver, primary, metrics={"rate_constants_R2": primary, "avg_slope_ratio": slope,
                                        "embedding_cluster_acc": clusters})  # fmt: skip


def rollout(driver, *values):
    for value in values:
        chain(driver, 0.5, metrics={"test_R2": value})


def modes(driver, tanh, mlp):
    driver.put(mlp)
    driver.put(tanh, parent=1, changes=[("graph_model.lin_edge_mode", "tanh")])


GAP = {"gap": Gap(minuend="test_R2", subtrahend="connectivity_R2")}
MODES = {"start": START | {"graph_model": {"lin_edge_mode": "mlp"}}}
PARTIAL_K = {
    "verdicts": (
        VerdictRule(name="converged", conditions=(Condition(metric="test_R2", op=">", value=0.9),)),
        VerdictRule(name="partial-k", conditions=(Condition(metric="connectivity_R2", op=">", value=0.9),)),
        VerdictRule(name="failed", conditions=()),
    )
}


@dataclass
class Case:
    name: str
    condition: str
    build: Any
    holds: tuple
    fails: tuple
    told: str
    fields: dict = field(default_factory=dict)


CASES = [
    Case("failure-probe", "3+ consecutive R² ≥ 0.9", chain, (0.5, 0.9, 0.95, 0.96), (0.95, 0.96, 0.5, 0.95),
         "iterations 2 to 4"),
    Case("boundary-probe", "3+ consecutive converged", chain, (0.5, 0.91, 0.95, 0.96), (0.95, 0.96, None, 0.97),
         "class converged in 3 consecutive"),
    Case("explore", "n_iter_block/4 consecutive successes", chain, (0.91, 0.95, 0.96), (0.5, 0.95, 0.96),
         "iterations 1 to 3"),
    Case("degeneracy-break", "degeneracy gap > 0.3 for 3+ iters", gaps, ((0.9, 0.9), *[(0.99, 0.4)] * 3),
         ((0.9, 0.9), (0.99, 0.4), (0.99, 0.4)), "iterations 2 to 4 .0.5900", GAP),
    Case("forced-branch", "Same R² plateau (±0.05) for 3+ iters", chain, (0.5, 0.7, 0.72, 0.74),
         (0.7, 0.72, 0.78), "within 0.0400 .row: 0.05. in iterations 2 to 4"),
    Case("forced-branch", "100% convergence, branching<10%", chain, (0.91, 0.93, 0.95, 0.97, 0.99),
         (0.5, 0.93, 0.95, 0.97, 0.99), "5 of 5 ideas are converged and the branching rate is 0%"),
    Case("switch-dimension", "4+ consecutive same-param mutations", chain, (0.1, 0.2, 0.3, 0.4, 0.5),
         (0.1, 0.2, 0.3, 0.4), f"iterations 2 to 5 all changed {LR}"),
    Case("switch-param", "Same param mutated 4+ times", chain, (0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.3, 0.4),
         "2 to 5"),
    Case("recombine", "2+ distant nodes with R² > 0.9", recombined, (0.95, 0.97), (0.95, 0.97, True),
         "nodes 3 and 2 .* 2 steps apart"),
    Case("recombine", "2+ distant nodes with R² > 0.9", recombined, (0.95, 0.97), (0.95, 0.85), "0.9700, 0.9500"),
    Case("dimension-sweep", "test_R2 > 0.998 plateau for 3+ iters", rollout, (0.9, 0.9985, 0.999, 0.9982),
         (0.9985, 0.999, 0.997), "test_R2 within 0.0008"),
    Case("exploit-tighten", "improvement rate < 30% in block", chain, (0.5, 0.6, 0.5, 0.4, 0.3),
         (0.5, 0.6, 0.5, 0.6, 0.3), "25% of the block's 4 mutations"),
    Case("regime-shift", "best R2 unchanged for 2+ batches", batches, (0.5,) * 8, (*(0.5,) * 6, 0.95, 0.5),
         "of iteration 1; the last 8 iterations"),
    Case("seed-robustness", "all perturbations from best degrade", lambda d, *v: (d.put(0.9), star(d, *v)),
         (0.5, 0.6, 0.7), (0.5, 0.6, 0.9), "all 3 children of the best node 1 are worse: 2 to 4"),
    Case("cross-seed-optimize", "best R2 unchanged for 2+ blocks", blocks, (0.9, 0.8, 0.7), (0.8, 0.7, 0.99),
         "of iteration 2; the last 2 blocks", {"n_iter_block": 2}),
    Case("universal-recipe-validate", "new recipe beats old at 2+ seeds", recipe, (0.9, 0.8), (0.9, 0.4),
         "node 2 beats node 1 .* 7 on draw 42, 8 on draw 42"),
    Case("variance-reduction", "same config gives R2 range > 0.05 across runs", replicated, (0.6,), (0.54,),
         "node 1 gave connectivity_R2 0.5000, 0.6000 in iterations 1, 2"),
    Case("L1-calibration", "connectivity_R2 0.3-0.7 with low degeneracy gap", gaps, ((0.6, 0.5),), ((0.9, 0.5),),
         "0.5000 and a gap of 0.1000", GAP),
    Case("L1-calibration", "connectivity_R2 0.3-0.7 with low degeneracy gap", gaps, ((0.6, 0.5),), ((0.8, 0.75),),
         "the best node 1", GAP),
    Case("code-modification", "conn_R2 plateau (±0.02) across 4+ configs with different params",
         lambda d, *v: (d.put(v[0]), star(d, *v[1:], keys=(LR, L1))), (0.5, 0.51, 0.5, 0.51), (0.5, 0.51, 0.5, 0.55),
         "over changes of training.coeff_W_L1, training.learning_rate_W_start"),
    Case("code-modification", "conn_R2 plateau (±0.02) across 4+ configs with different params", undecided,
         (0.5, 0.6, 0.5, 0.51, 0.5, 0.51), (0.5, None, 0.5, 0.51, 0.5, 0.51), "iterations 3 to 6 .* over changes of"),
    Case("code-refine", "code change improved conn_R2", coded, (0.6,), (0.5005,),
         "edit of node 2: keep .provisional, n=1.: connectivity_R2 0.6000 against 0.5000 of node 1"),
    Case("code-refine", "code change improved conn_R2", coded, (0.6, 0.5005), (0.6, 0.4), "node 2: keep"),
    Case("code-revert", "code change degraded conn_R2", coded, (0.4,), (0.6,), "node 2: worse"),
    Case("code-revert", "code change degraded conn_R2", coded, (None,), (None, 0.5005),
         "node 2: crashed: .*may be mended 2 more"),
    Case("code-next-priority", "code change had zero effect (conn_R2 unchanged)", neutral, (0.5, 0.5), (0.5, 0.6),
         "node 7: neutral"),
    Case("multi-code-modification", "conn_R2 plateau persists after 2+ code changes", neutral, (0.5, 0.5),
         (0.5, 0.6), "nodes 4, 7, each alone on node 1, left"),
    Case("identifiability-test", "conn_R2 plateau persists after ALL code changes", codes, (0.51, 0.5, 0.5, 0.51),
         (0.51, 0.5, 0.5), "nodes 2 to 5 left"),
    Case("fixed-model-sweep", "lin_edge_mode=tanh gives same conn_R2 as mlp", modes, (0.5, 0.51), (0.5, 0.6),
         "lin_edge_mode=tanh .node 2. and mlp .node 1. give the same", MODES),
    Case("robustness-test", "Good config found", chain, (0.5, 0.95), (0.5, 0.85), "node 2 leads with 0.9500"),
    Case("boundary-skip", "3+ partial results probing boundary", probes, (0.5, 0.6, 0.7), (0.5, 0.6, 0.05),
         "probes 2 to 4"),
    Case("homeo-kick", "rate_constants_R2 > 0.9 but slopes ~0", metered, ((0.95, 0.01, 0.5),), ((0.95, 0.6, 0.5),),
         "avg_slope_ratio.* < 0.1 in iterations 1"),
    Case("embedding-focus", "Slopes moving but embeddings stuck", metered, ((0.9, 0.5, 0.6), *[(0.9, 0.6, 0.61)] * 2),
         ((0.9, 0.5, 0.6), (0.9, 0.6, 0.7), (0.9, 0.6, 0.8)), "embedding_cluster_acc stays at"),
    Case("k-protect", "All partial-k for 4+ iters", chain, (0.95,) * 4, (0.95, 0.95, 0.5, 0.95),
         "iterations 1 to 4 are all partial-k", PARTIAL_K),
]  # fmt: skip


def built(case, arguments):
    driver = start(case.name, case.condition, **case.fields)
    case.build(driver, *arguments)
    return strategy.active(driver.state)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.name}: {c.condition}")
def test_a_row_holds_in_one_journal_and_not_in_another(case):
    (trigger,) = built(case, case.holds)
    assert trigger.strategy == case.name and trigger.action == "act"
    assert re.search(case.told, trigger.evidence), trigger.evidence
    assert built(case, case.fails) == ()


def test_every_known_row_has_a_case():
    tested_keys = {strategy.kind_of(c.name, c.condition).key for c in CASES}
    assert tested_keys == {k.key for k in KINDS if k.group != "default"}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_no_row_holds_before_the_first_run(case):
    assert strategy.active(start(case.name, case.condition, **case.fields).state) == ()


def table(*rows, **fields):
    fields = {"n_iter_block": 12, "replicate_every": 0} | fields
    return Driver(contract(strategies=tuple(read_row(n, c, "act", METRICS.get) for n, c in rows), **fields))


PROBE, FLAT = ("failure-probe", "3+ consecutive R2 >= 0.9"), ("forced-branch", "R2 within 0.05 for 3+ iterations")
WIDE, MANY = ("degeneracy-break", "gap > 0.3"), ("exploit-tighten", "improvement rate < 30%")


def names(driver, **options):
    return [t.strategy for t in strategy.active(driver.state, **options)]


def test_precedence_is_safety_protocol_plateau_progress_default():
    driver = table(("exploit", "Default"), MANY, FLAT, PROBE, WIDE, **GAP)
    gaps(driver, *[(1.0, v) for v in (0.68, 0.68, 0.68, 0.68)])
    chain(driver, 0.9, 0.9, 0.9)
    assert names(driver) == ["failure-probe", "forced-branch", "exploit-tighten", "exploit"]
    driver = table(("exploit", "Default"), MANY, FLAT, PROBE, WIDE, **GAP)
    gaps(driver, *[(1.3, v) for v in (0.95, 0.949, 0.948, 0.947, 0.946)])
    assert names(driver) == ["degeneracy-break", "failure-probe", "forced-branch", "exploit-tighten", "exploit"]


def test_a_row_that_was_followed_rests_until_its_evidence_is_new():
    driver = table(PROBE, n_iter_block=20)
    chain(driver, 0.95, 0.95, 0.95)
    assert names(driver) == ["failure-probe"]
    chain(driver, 0.2, strategy="failure-probe")
    assert names(driver) == []
    chain(driver, 0.95, 0.95, 0.95, 0.95)  # the probe neither broke nor prolonged the streak
    assert names(driver) == []
    chain(driver, 0.5, 0.95, 0.95, 0.95)
    assert names(driver) == ["failure-probe"]


def test_a_plateau_that_goes_on_is_answered_again_after_six_iterations():
    driver = table(FLAT)
    chain(driver, 0.5, 0.5, 0.5)
    chain(driver, 0.5, strategy="forced-branch")
    seen = []
    for _ in range(7):
        seen.append(names(driver))
        chain(driver, 0.5)
    assert seen == [[], [], [], [], [], [], ["forced-branch"]]


def test_a_pending_proposal_satisfies_its_row():
    driver = table(PROBE)
    chain(driver, 0.95, 0.95, 0.95)
    made = driver.state.iterations[3].proposal.model_copy(update={"iteration": 4, "strategy": "failure-probe"})
    assert names(driver, pending=(made,)) == []


def test_only_the_block_in_progress_is_looked_at():
    driver = table(PROBE, n_iter_block=3)
    chain(driver, 0.95, 0.95, 0.95)
    assert names(driver) == [] and names(driver, block=1) == ["failure-probe"]


def test_replicates_and_other_draws_are_no_plateau():
    driver = table(FLAT)
    driver.put(0.5)
    driver.put(0.51, of=1, seeds=(8, 42))
    driver.put(0.52, of=1, seeds=(7, 43))
    assert names(driver) == []


def test_the_worse_is_judged_by_the_metrics_direction():
    rule = contract().metrics[0].model_copy(update={"direction": "min"})
    driver = table(("code-refine", "code change improved R2"), metrics=(rule,))
    coded(driver, 0.4)
    assert names(driver) == ["code-refine"]


MULTI = ("multi-code-modification", "conn_R2 plateau persists after 2+ code changes")


def test_two_neutral_edits_of_one_node_are_named_to_be_taken_together_once():
    driver = table(MULTI, n_iter_block=20)
    neutral(driver, 0.5, 0.5)
    (trigger,) = strategy.active(driver.state)
    assert trigger.nodes == (4, 7) and trigger.since == 7
    for options in ({"then": 0.9}, {"combined": True}, {"parents": (1, 4)}):
        driver = table(MULTI, n_iter_block=20)
        neutral(driver, 0.5, 0.5, **options)
        assert names(driver) == [], options


def test_a_crashed_edit_that_was_mended_is_no_longer_looked_at():
    driver = table(("code-revert", "code change degraded R2"), ("code-refine", "code change improved R2"))
    coded(driver, 0.6, None)
    assert names(driver) == ["code-revert"]
    edit(driver, 0.5005, repairs=3)
    assert names(driver) == ["code-refine"]
    assert strategy.active(driver.state)[0].nodes == (2, 1)


def test_rates_count_mutations_only():
    driver = table()
    assert strategy.rates(driver.state, 1) == (None, None)
    driver.put(0.5)
    driver.put(0.6, parent=1, changes=[(LR, 1e-2)])
    driver.put(0.6, of=2, seeds=(8, 42))
    driver.put(0.7, parent=2, changes=[(L1, 1e-4)])
    driver.put(0.7, parent=2, changes=[(BATCH, 16)])
    driver.put(0.2, parent=1, changes=[(BATCH, 16)])
    assert strategy.rates(driver.state, 1) == (0.5, 0.75)


def test_an_improvement_within_noise_is_none():
    driver = table()
    driver.put(0.5)
    driver.put(0.7, of=1, seeds=(8, 42))
    driver.put(0.65, parent=1, changes=[(LR, 1e-2)])
    assert floor(driver.state) == pytest.approx(0.1414, abs=1e-4)
    assert strategy.rates(driver.state, 1) == (0.0, 0.0)


def test_uses_count_proposals_by_row():
    driver = table(PROBE, FLAT)
    chain(driver, 0.5, 0.5)
    chain(driver, 0.5, strategy="forced-branch")
    assert strategy.uses(driver.state) == {"failure-probe": 0, "forced-branch": 1}


def test_rows_that_never_trigger_in_three_blocks_are_stale():
    driver = table(("exploit", "Default"), PROBE, FLAT, ("moonwalk", "full moon"), n_iter_block=3)
    chain(driver, 0.5, 0.5, 0.5)
    for _ in range(2):
        driver.put(0.1)
        star_of = driver.state.last_iteration
        driver.put(0.3, parent=star_of, changes=[(LR, 1e-3)])
        assert strategy.stale(driver.state) == ()
        driver.put(0.8, parent=star_of, changes=[(LR, 1e-2)])
    assert strategy.stale(driver.state) == ("failure-probe", "moonwalk")
