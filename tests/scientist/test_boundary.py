import pytest

from orchestrator.core import boundary as check
from orchestrator.core.contract import RegimeRule, UserInstruction
from orchestrator.core.events import RegimeReady
from orchestrator.core.strategy_rows import MAX_ROWS, read_row
from orchestrator.scientist.boundary import next_regime
from orchestrator.scientist.learned import acknowledged, principles
from orchestrator.scientist.offline import OfflineScientist
from tests.core.test_strategy import BATCH, L1, LR, chain
from tests.factory import Driver, contract

DEFAULT = ("exploit", "Default", "Highest UCB node")
EXPLORE = ("explore", "5+ consecutive successes", "out")
TIGHTEN = ("exploit-tighten", "improvement rate < 30% in block", "small")
BRANCH = ("forced-branch", "Same R² plateau (±0.05) for 3+ iters", "second")
SWITCH = ("switch-dimension", "4+ consecutive same-param mutations", "other")


def table(*rows, **fields):
    fields = {"n_iter_block": 6, "replicate_every": 0} | fields
    return Driver(contract(strategies=tuple(read_row(*row) for row in rows), **fields))


def edits(driver):
    """End the block; return its rule edits as {(op, row): condition}."""
    turn = OfflineScientist().propose(driver.state, 3)
    check.check(driver.state, turn)
    ended = driver.ended()
    assert turn.boundary == ended and not turn.proposals
    return {(e.op, e.strategy): e.condition for e in ended.rules}


def healthy(driver, *last):
    """Branches, gains, no plateau, no streak: nothing of the self-check holds."""
    driver.put(0.1)
    driver.put(0.3, parent=1, changes=[(LR, 1e-2)])
    driver.put(0.2, parent=1, changes=[(L1, 1e-4)])
    driver.put(0.5, parent=2, changes=[(BATCH, 16)])
    driver.put(0.7, parent=4, changes=[(L1, 1e-4)])
    driver.put(*(last or (0.9,)), **({} if last else {"parent": 5, "changes": [(LR, 5e-3)]}), **LAST.get(last, {}))


LAST = {(value,): {"of": 5, "seeds": (8, 42)} for value in (0.71, 0.1)}


def test_a_block_is_ended_once_and_only_when_it_is_complete():
    driver = table(DEFAULT)
    chain(driver, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert OfflineScientist().propose(driver.state, 1).boundary is None
    chain(driver, 0.6)
    assert driver.ended().block == 1
    turn = OfflineScientist().propose(driver.state, 1)
    assert turn.boundary is None and turn.proposals[0].mutation.kind == "baseline" and turn.proposals[0].base == 6


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((DEFAULT,), {("add", "explore"): "n_iter_block/4 consecutive successes",
                      ("add", "exploit-tighten"): "improvement rate < 30% in block",
                      ("add", "forced-branch"): "R2 within 0.05 for 3+ iterations",
                      ("add", "switch-dimension"): "4+ consecutive mutations of one key"}),
        ((EXPLORE, TIGHTEN, BRANCH, SWITCH), {("change", "explore"): "4+ consecutive successes",
                                              ("change", "exploit-tighten"): "improvement rate < 40% in block",
                                              ("change", "forced-branch"): "R2 within 0.05 for 2+ iterations",
                                              ("change", "switch-dimension"): "3+ consecutive mutations of one key"}),
        ((("switch-param", "Same param mutated 4+ times", "other"), EXPLORE, TIGHTEN, BRANCH),
         {("change", "switch-param"): "3+ consecutive mutations of one key"}),
    ],
)  # fmt: skip
def test_a_chain_on_a_plateau_has_all_four_rows_added_or_changed(rows, expected):
    driver = table(*rows)
    chain(driver, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    made = edits(driver)
    assert expected.items() <= made.items() and len(made) == 4
    reasons = {e.strategy: e.reason for e in driver.state.boundaries[1].rules}
    assert "branching rate 0% in block 1" in reasons["explore"]
    assert "improvement rate 0% in block 1" in reasons["exploit-tighten"]
    assert "iterations 1 to 6" in reasons["forced-branch"]


def test_the_edited_row_is_what_the_predicates_read_in_the_next_block():
    driver = table(EXPLORE, TIGHTEN, BRANCH, SWITCH)
    chain(driver, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    driver.ended()
    numbers = {r.name: r.numbers for r in driver.state.strategies}
    assert numbers["explore"] == {"count": 4} and numbers["exploit-tighten"]["below"] == 0.4
    assert numbers["forced-branch"] == {"within": 0.05, "count": 2} and numbers["switch-dimension"] == {"count": 3}


def test_a_plateau_sets_the_tolerance_to_three_noise_standard_deviations():
    driver = table(BRANCH)
    driver.put(0.9)
    driver.put(0.904, of=1, seeds=(8, 42))
    for value, key, new in ((0.9, LR, 1e-2), (0.91, L1, 1e-4), (0.905, BATCH, 16), (0.5, LR, 1e-4)):
        driver.put(value, parent=1, changes=[(key, new)])
    made = edits(driver)
    assert made["change", "forced-branch"] == "R2 within 0.0085 for 3+ iterations"
    assert "sd 0.0028, 1 d.o.f." in driver.state.boundaries[1].rules[-1].reason


def test_a_training_seed_that_fails_does_not_loosen_the_tolerance():
    driver = table(DEFAULT, EXPLORE, TIGHTEN, BRANCH, SWITCH)
    healthy(driver, 0.1)
    made = edits(driver)
    assert ("change", "forced-branch") not in made and made, made


def test_a_healthy_block_has_one_edit_the_tolerance_when_noise_is_measured():
    driver = table(DEFAULT, BRANCH)
    healthy(driver, 0.71)
    assert edits(driver) == {("change", "forced-branch"): "R2 within 0.022 for 3+ iterations"}


def test_a_healthy_block_has_one_edit_the_wording_of_exploit_otherwise():
    driver = table(DEFAULT, BRANCH)
    healthy(driver)
    assert edits(driver) == {("change", "exploit"): "Default"}
    row = driver.state.strategies[0]
    assert row.action == "Highest UCB node; lr_W first (block 1)" and row.known


def test_an_instruction_without_a_table_has_nothing_to_edit():
    driver = Driver(contract(replicate_every=0))
    chain(driver, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert edits(driver) == {}


def test_the_other_meaning_of_forced_branch_keeps_its_meaning():
    driver = table(("forced-branch", "100% convergence, branching<10%", "bottom half"))
    chain(driver, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert edits(driver)["change", "forced-branch"] == "100% convergence, branching<20%"


def idle_rows(number):
    return [(f"row-{i}", "never", "act") for i in range(number)]


@pytest.mark.parametrize(("rows", "removed"), [(MAX_ROWS, True), (MAX_ROWS - 8, False)])
def test_rows_that_never_trigger_are_removed_only_from_a_full_table(rows, removed):
    driver = table(DEFAULT, *idle_rows(rows - 1), n_iter_block=2)
    for _ in range(3):
        first = driver.put(0.1)
        driver.put(0.2, parent=first, changes=[(LR, 1e-2)])
        ended = driver.ended()
    assert any(e.op == "remove" and e.strategy == "row-0" for e in ended.rules) == removed
    assert len(driver.state.strategies) <= MAX_ROWS
    assert "proposed for removal: row-0" in ended.summary[-1]


def test_no_more_rows_are_added_than_the_table_holds():
    driver = table(DEFAULT, *idle_rows(MAX_ROWS - 2))
    chain(driver, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5)
    assert list(edits(driver)) == [("add", "explore")]
    assert len(driver.state.strategies) == MAX_ROWS


def test_the_summary_names_best_gains_and_failures():
    driver = table(DEFAULT)
    chain(driver, 0.1, 0.3, None, 0.2)
    driver.put(0.32, of=2, seeds=(8, 42))
    driver.put(0.4, parent=2, changes=[(L1, 1e-4)])
    summary = driver.ended().summary
    assert summary[0].startswith("Best: node 6, connectivity_R2 0.4000 (n=1); branching rate 25%, improvement rate 50%")
    assert "lr_W 3E-3 -> 1E-3 +0.2100 (iter 2); coeff_W_L1 1E-5 -> 1E-4 +0.0900 (iter 6)" in summary[1]
    assert summary[2] == "Failed: iter 3 (crashed)."


REGIMES = tuple(RegimeRule(name=n, values={"simulation.n_neurons": v}) for n, v in (("a", 10), ("b", 20), ("c", 30)))


def block(driver, *values):
    first = driver.put(values[0])
    for i, value in enumerate(values[1:]):
        driver.put(value, parent=first, changes=[(LR, (1e-2, 1e-3)[i])])


def test_regimes_are_taken_in_their_order_then_from_the_start():
    driver = table(DEFAULT, n_iter_block=2, regimes=REGIMES)
    found = []
    for _ in range(4):
        block(driver, 0.1, 0.2)
        found.append(driver.ended().regime)
    assert found == ["b", "c", "a", "b"]
    assert driver.state.config_of(driver.state.iterations[3].proposal)["simulation"]["n_neurons"] == 20


def test_a_regime_that_the_user_asks_for_comes_first():
    asked = UserInstruction(text="look at c", regimes=("c",))
    driver = table(DEFAULT, n_iter_block=2, regimes=REGIMES, user_instructions=(asked,))
    found = []
    for _ in range(3):
        block(driver, 0.1, 0.2)
        assert next_regime(driver.state) in ("a", "b", "c")
        found.append(driver.ended().regime)
    assert found == ["c", "a", "b"]


def test_the_hypothesis_has_a_number_that_the_next_block_can_refute():
    driver = table(DEFAULT, n_iter_block=2, regimes=REGIMES)
    block(driver, 0.1, 0.2)
    assert driver.ended().hypothesis == "carried into regime b, the config of node 2 gives connectivity_R2 > 0.9"
    driver = table(DEFAULT, n_iter_block=2, block_focus=("lr_W", "coeff_W_L1 and lr_W"))
    block(driver, 0.1, 0.2)
    ended = driver.ended()
    assert ended.hypothesis == "changing coeff_W_L1 or lr_W brings connectivity_R2 of node 2 (0.2000) above 0.2030"
    assert ended.focus == "coeff_W_L1 and lr_W" and ended.focus_keys == (L1, LR)


def test_nothing_better_than_the_truth_is_expected():
    driver = table(DEFAULT, n_iter_block=2, block_focus=("lr_W", "coeff_W_L1 and lr_W"))
    preflight = {"oracle": {"connectivity_R2": 1.0}}
    driver.add(RegimeReady(regime="sha", name="seed 42", simulation_seed=42, preflight=preflight))
    block(driver, 0.1, 0.9985)
    told = driver.ended().hypothesis
    assert told == "connectivity_R2 of node 2 (0.9985) stays within 0.0030 of the 1 of the truth"


def test_a_plan_that_names_no_key_gets_the_keys_with_the_fewest_trials():
    driver = table(DEFAULT, n_iter_block=2, block_focus=("lr_W", "what the findings ask for"))
    block(driver, 0.1, 0.2)
    ended = driver.ended()
    assert ended.focus_keys == (L1, BATCH, LR)
    assert ended.focus == "what the findings ask for (keys with the fewest trials: coeff_W_L1, batch_size, lr_W)"


def test_a_block_without_a_result_is_ended_too():
    driver = table(DEFAULT, n_iter_block=2)
    driver.put(outcome="crashed")
    driver.put(parent=1, changes=[(LR, 1e-2)], outcome="diverged")
    edits(driver)
    ended = driver.state.boundaries[1]
    assert ended.summary[0] == "No run of block 1 gave a connectivity_R2."
    assert ended.hypothesis == "some config of block 2 gives a connectivity_R2 at all"


# Principles


def test_principles_need_measured_noise_and_name_what_supports_and_contradicts_them():
    driver = table(DEFAULT, n_iter_block=12)
    driver.put(0.5)
    driver.put(0.7, parent=1, changes=[(LR, 5e-3)])
    driver.put(0.8, parent=2, changes=[(LR, 1e-2)])
    driver.put(0.6, parent=1, changes=[(L1, 1e-4)])
    assert principles(driver.state) == ()
    driver.put(0.81, of=3, seeds=(8, 42))
    driver.put(0.55, parent=4, changes=[(LR, 1e-2)])
    first, second = principles(driver.state)
    assert first.text == "lr_W up from 3E-3 to 1E-2 raises connectivity_R2 (+0.2000, +0.1050)"
    assert (first.support, first.against, first.regime) == ((2, 3), (6,), "")
    assert second.text == "coeff_W_L1 up from 1E-5 to 1E-4 raises connectivity_R2 (+0.1000)"


def test_established_principles_come_first_and_differences_within_noise_support_nothing():
    driver = table(DEFAULT, n_iter_block=12, principle_support=1)
    driver.put(0.5)
    driver.put(0.6, of=1, seeds=(8, 42))
    driver.put(0.8, parent=1, changes=[(LR, 1e-2)])
    driver.put(0.82, parent=3, changes=[(L1, 1e-4)])
    driver.put(0.3, parent=3, changes=[(LR, 1e-3)])
    driver.put(0.1, parent=5, changes=[(LR, 1e-4)])
    driver.put(
        0.6,
        parent=6,
        changes=[
            (LR, 1e-3),
        ],
    )
    texts = [p.text.split(" connectivity_R2")[0] for p in principles(driver.state)]
    assert texts == ["lr_W down from 1E-2 to 1E-4 lowers", "lr_W up from 1E-4 to 1E-2 raises"]


def test_principles_of_regimes_are_kept_apart():
    driver = table(DEFAULT, n_iter_block=3, regimes=REGIMES)
    for better in (0.9, 0.1):
        first = driver.put(0.5)
        driver.put(0.501, of=first, seeds=(8, 42))
        driver.put(better, parent=first, changes=[(LR, 1e-2)])
        driver.ended()
    assert {(p.regime, p.text.split()[6]) for p in principles(driver.state)} == {("a", "raises"), ("b", "lowers")}


def test_user_instructions_are_answered_one_by_one():
    asked = (
        UserInstruction(text="look at b and c", regimes=("b", "c"), undeclared=("n_neurons=400",)),
        UserInstruction(text="try lr_W freely"),
        UserInstruction(text="be kind"),
    )
    driver = table(DEFAULT, n_iter_block=2, regimes=REGIMES, user_instructions=asked)
    block(driver, 0.1, 0.2)
    driver.ended()
    first, second, third = acknowledged(driver.state)
    assert first.startswith("regime b is that of block 2; regime c is taken at a block end; n_neurons=400: no declared")
    assert second == "lr_W is free (1E-4 to 1E-2) and comes first"
    assert third == "kept for readers; the offline scientist acts on keys, ranges and regimes only"
    assert OfflineScientist().propose(driver.state, 1).acknowledged == (first, second, third)
