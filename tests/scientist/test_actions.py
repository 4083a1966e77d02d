"""What the offline scientist proposes when a row of the strategy table holds."""

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from orchestrator.core import configs, mutation, tree
from orchestrator.core.contract import Gap, KeyRule
from orchestrator.core.state import fold
from orchestrator.core.stats import summarise
from orchestrator.core.strategy_kinds import KINDS
from orchestrator.core.strategy_rows import read_row
from orchestrator.scientist.actions import ACTIONS, COSTLY, named_keys
from orchestrator.scientist.desk import Desk
from orchestrator.scientist.moves import range_ends
from orchestrator.scientist.offline import OfflineScientist
from tests.core.test_strategy import (
    GAP,
    L1,
    LR,
    METRICS,
    MODES,
    PARTIAL_K,
    batches,
    chain,
    codes,
    gaps,
    metered,
    modes,
    recipe,
    recombined,
    rollout,
    star,
)
from tests.factory import START, Driver, contract

INIT = KeyRule(key="training.n_epochs_init", short="n_epochs_init", type="int", level="free", low=0, high=2, start=2)
WITH_INIT = {
    "keys": (*contract().keys, INIT),
    "start": START | {"training": START["training"] | {"n_epochs_init": 2}},
}


def table(*rows, **fields):
    fields = {"n_iter_block": 12, "replicate_every": 0} | fields
    return Driver(contract(strategies=tuple(read_row(*row, METRICS.get) for row in rows), **fields))


def proposed(driver):
    (proposal,) = OfflineScientist().propose(driver.state, 1).proposals
    mutation.check(driver.state, proposal)
    return proposal


def change_of(proposal):
    (change,) = proposal.mutation.changes
    return change


def again(driver, proposal, node, seeds):
    assert proposal.mutation.replicate_of == node and not proposal.mutation.changes
    return (proposal.training_seed, proposal.simulation_seed) == seeds


def best_with_children(driver, *values):
    driver.put(0.8)
    star(driver, *values)


def idle_l1(driver):
    driver.put(0.5, metrics={"test_R2": 0.6})
    driver.put(0.6, parent=1, changes=[(LR, 1e-2)], metrics={"test_R2": 0.7}, idle={L1: "no phase 2"})


def blocks(driver):
    for best in (0.9, 0.5, 0.5):
        first = driver.put(0.1)
        driver.put(best, parent=first, changes=[(LR, 1e-3)])
        driver.put(0.1, parent=first, changes=[(LR, 2e-3)])
        driver.ended()
    first = driver.put(0.4)
    driver.put(0.1, parent=first, changes=[(LR, 2e-3)])


def two_branches(driver):
    driver.put(0.5)
    driver.put(0.6, parent=1, changes=[(LR, 1e-2)])
    driver.put(0.95, parent=2, changes=[("training.batch_size", 16)])
    driver.put(0.6, parent=1, changes=[(L1, 1e-4)])
    driver.put(0.92, parent=4, changes=[(LR, 1e-3)])


@dataclass
class Case:
    row: tuple
    build: Any
    shows: Any
    fields: dict = field(default_factory=dict)


STREAK = lambda d: chain(d, 0.5, 0.91, 0.95, 0.96)  # noqa: E731
CASES = [
    Case(("failure-probe", "3+ consecutive R2 >= 0.9", "to the end"), STREAK,
         lambda d, p: p.parent == 4 and change_of(p).key == LR and change_of(p).new == 1e-2),
    Case(("explore", "n_iter_block/4 consecutive successes", "elsewhere"),
         lambda d: (d.put(0.91), star(d, 0.95, 0.93)), lambda d, p: p.parent == 2),
    Case(("degeneracy-break", "gap > 0.3", "Increase coeff_edge_diff, L1, or reduce training duration"),
         lambda d: gaps(d, (0.9, 0.4), (0.9, 0.5)), lambda d, p: change_of(p).key == L1 and change_of(p).new > 1e-5,
         {"gap": Gap(minuend="test_R2", subtrahend="connectivity_R2")}),
    Case(("forced-branch", "R2 within 0.05 for 3+ iterations", "branch"), lambda d: chain(d, 0.5, 0.51, 0.52),
         lambda d, p: p.parent == tree.scores(d.state, 1)[1].node and change_of(p).key != LR),
    Case(("forced-branch", "100% convergence, branching<10%", "bottom 50% of tree"),
         lambda d: chain(d, 0.91, 0.93, 0.95, 0.97, 0.99),
         lambda d, p: p.parent in [s.node for s in tree.scores(d.state, 1)[3:]]),
    Case(("switch-dimension", "4+ consecutive mutations of one key", "another"),
         lambda d: chain(d, 0.1, 0.2, 0.3, 0.4, 0.5), lambda d, p: change_of(p).key != LR),
    Case(("recombine", "2+ distant nodes with R2 > 0.9", "Merge best params from both nodes"), two_branches,
         lambda d, p: p.mutation.second_parent == 5 and p.parent == 3 and change_of(p).key == L1),
    Case(("recombine", "2+ distant nodes with R2 > 0.9", "Merge"), lambda d: recombined(d, 0.95, 0.97),
         lambda d, p: (p.parent, p.mutation.second_parent, change_of(p).key, change_of(p).new) == (3, 2, LR, 1e-2)),
    Case(("dimension-sweep", "test_R2 plateau for 3+ iterations", "A key nobody tried: batch_size"),
         lambda d: rollout(d, 0.9, 0.91, 0.92), lambda d, p: change_of(p).key == "training.batch_size"),
    Case(("exploit-tighten", "improvement rate < 30% in block", "small steps"),
         lambda d: best_with_children(d, 0.5, 0.5, 0.5, 0.5),
         lambda d, p: p.parent == 1 and change_of(p).key == L1 and abs(math.log10(change_of(p).new / 1e-5)) < 0.6),
    Case(("regime-shift", "best unchanged for 2+ batches", "a key of another kind"),
         lambda d: batches(d, *(0.5,) * 8), lambda d, p: change_of(p).key == "training.batch_size" or p.parent == 1,
         {"n_iter_block": 24}),
    Case(("seed-robustness", "all steps from the best node degrade it", "again"),
         lambda d: best_with_children(d, 0.5, 0.5, 0.6), lambda d, p: again(d, p, 1, (8, 42))),
    Case(("robustness-test", "Good config found", "Re-run same config"), lambda d: chain(d, 0.5, 0.6, 0.95),
         lambda d, p: again(d, p, 3, (8, 42))),
    Case(("variance-reduction", "runs of one config differ by more than 0.05", "neighbour"),
         lambda d: (d.put(0.5), d.put(0.6, of=1, seeds=(8, 42)), chain(d, 0.2, 0.1)),
         lambda d, p: again(d, p, 1, (9, 42))),
    Case(("universal-recipe-validate", "new recipe beats old at 2+ seeds", "the seeds that are left"),
         lambda d: (recipe(d, 0.9, 0.8)), lambda d, p: again(d, p, 2, (7, 43))),
    Case(("cross-seed-optimize", "best R2 unchanged for 2+ blocks", "the weaker draw"), blocks,
         lambda d, p: again(d, p, 10, (7, 43)), {"n_iter_block": 3}),
    Case(("identifiability-test", "plateau persists after ALL code changes", "vary seed"),
         lambda d: codes(d, 0.51, 0.505, 0.5, 0.51), lambda d, p: again(d, p, 2, (7, 43))),
    Case(("L1-calibration", "connectivity_R2 0.3-0.7 with a small gap", "Give phase 2 an epoch"), idle_l1,
         lambda d, p: (change_of(p).key, change_of(p).new) == (INIT.key, 1), WITH_INIT | GAP),
    Case(("L1-calibration", "connectivity_R2 0.3-0.7 with a small gap", "vary coeff_W_L1"),
         lambda d: gaps(d, (0.6, 0.5), (0.7, 0.6)), lambda d, p: change_of(p).key == L1, GAP),
    Case(("boundary-skip", "3+ partial results probing boundary", "elsewhere"),
         lambda d: (d.put(0.5), [d.put(0.5, parent=1, changes=[(LR, v)], strategy="failure-probe")
                                 for v in (1e-4, 2e-4, 1e-2)], d.put(0.4, parent=1, changes=[(L1, 1e-6)]),
                    d.put(0.4, parent=1, changes=[(L1, 1e-7)])),
         lambda d, p: change_of(p).key != LR),
    Case(("homeo-kick", "rate_constants_R2 > 0.9 but slopes ~0", "Increase batch_size, decrease lr_W"),
         lambda d: metered(d, (0.95, 0.01, 0.5), (0.95, 0.01, 0.5)),
         lambda d, p: (change_of(p).key, change_of(p).new) == ("training.batch_size", 16)),
    Case(("embedding-focus", "Slopes moving but embeddings stuck", "Decrease lr_W"),
         lambda d: metered(d, *[(0.95, 0.5, 0.5)] * 3), lambda d, p: change_of(p).key == LR
         and change_of(p).new < change_of(p).old),
    Case(("k-protect", "All partial-k for 4+ iters", "Decrease lr_W/coeff_W_L1 to protect k"),
         lambda d: chain(d, *(0.95,) * 4), lambda d, p: change_of(p).key == LR and change_of(p).new < change_of(p).old,
         PARTIAL_K),
    Case(("fixed-model-sweep", "lin_edge_mode=tanh gives same conn_R2 as mlp", "Keep tanh, sweep lr_W"),
         lambda d: (modes(d, 0.5, 0.51), d.put(0.4, parent=1, changes=[(L1, 1e-6)])),
         lambda d, p: p.parent == 2 and change_of(p).key == LR, MODES),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.row[0]}: {c.row[2]}")
def test_a_row_that_holds_is_followed(case):
    driver = table(("exploit", "Default", "highest UCB"), case.row, **case.fields)
    case.build(driver)
    proposal = proposed(driver)
    assert proposal.strategy == case.row[0]
    assert case.shows(driver, proposal), proposal
    assert any(c.isdigit() for c in proposal.evidence)


def test_every_kind_without_code_has_an_action():
    code = {k.key for k in KINDS if "code" in k.names[0]}
    assert set(ACTIONS) == {k.key for k in KINDS if k.group != "default"} - code
    assert set(ACTIONS) >= COSTLY


def test_rows_about_code_are_shown_and_not_followed():
    driver = table(("code-modification", "plateau (±0.02) across 4+ configs", "edit"), ("exploit", "Default", "ucb"))
    driver.put(0.5)
    star(driver, 0.51, 0.5, 0.51, keys=(LR, L1))
    proposal = proposed(driver)
    assert proposal.strategy == "exploit" and proposal.evidence == "also active: code-modification"


def test_other_triggers_are_named_beside_the_one_that_is_followed():
    driver = table(("explore", "2+ consecutive successes", "else"), ("failure-probe", "2+ consecutive R2 > 0.9", "end"))
    driver.put(0.91)
    star(driver, 0.95, 0.93)
    assert proposed(driver).evidence.endswith("also active: failure-probe")


def test_a_row_without_a_valid_move_gives_way_to_the_next_and_at_last_to_the_default():
    driver = table(("dimension-sweep", "R2 plateau for 3+ iterations", "new"), ("exploit", "Default", "ucb"))
    driver.put(0.5)
    star(driver, 0.5, 0.5, 0.51, keys=(LR, L1, "training.batch_size"))
    assert proposed(driver).strategy == "exploit"


def test_two_plain_steps_come_between_rows_that_are_followed():
    driver = table(("failure-probe", "3+ consecutive R2 >= 0.9", "end"), ("explore", "3+ consecutive successes", "out"))
    driver.explore(9, lambda c: 0.95)
    names = [it.proposal.strategy for _, it in sorted(driver.state.iterations.items())]
    followed = [i for i, n in enumerate(names) if n != "exploit"]
    assert names[3] == "failure-probe" and len(followed) >= 2
    assert all(b - a > 2 for a, b in itertools.pairwise(followed))


FULL = (
    ("exploit", "Default", "highest UCB"),
    ("failure-probe", "3+ consecutive R² ≥ 0.9", "Extreme parameter to find boundary"),
    ("explore", "n_iter_block/4 consecutive successes", "Select outside recent chain"),
    ("forced-branch", "Same R² plateau (±0.05) for 3+ iters", "Select 2nd-highest UCB"),
    ("switch-dimension", "4+ consecutive same-param mutations", "Change a different parameter"),
    ("recombine", "2+ distant nodes with R² > 0.9", "Merge best params from both nodes"),
    ("exploit-tighten", "improvement rate < 30% in block", "Keep best config"),
    ("regime-shift", "best R2 unchanged for 2+ batches", "training_single_type"),
    ("seed-robustness", "all perturbations from best degrade", "Replay best config"),
    ("cross-seed-optimize", "best R2 unchanged for 2+ blocks", "the weaker seed"),
    ("universal-recipe-validate", "new recipe beats old at 2+ seeds", "all remaining seeds"),
    ("variance-reduction", "same config gives R2 range > 0.05 across runs", "new seed"),
)


def noisy(config):
    """Near 1 over most of the ranges, so that every kind of row holds somewhere; the seeds move it by up to 0.03."""
    t = config["training"]
    distance = abs(math.log10(t["learning_rate_W_start"] / 1e-2)) + 0.3 * abs(math.log10(t["coeff_W_L1"] / 1e-4))
    spread = 0.01 * ((t["seed"] * 7 + config["simulation"]["seed"] * 3) % 4)
    return 0.99 - 0.08 * distance - spread


@pytest.fixture(scope="module")
def explored():
    driver = table(*FULL, replicate_every=6)
    driver.explore(36, noisy)
    return driver


def test_every_proposal_of_a_full_table_keeps_the_contract(explored):
    seen = {it.proposal.strategy for it in explored.state.iterations.values()}
    assert len(explored.state.done) == 36 and len(seen) >= 5
    for turn in explored.state.turns:
        prefix = fold(explored.state.contract, explored.events[: turn.based_on])
        for i, proposal in enumerate(turn.proposals):
            mutation.check(prefix, proposal, turn.proposals[:i])


def test_each_turn_of_a_full_table_can_be_recomputed(explored):
    for turn in explored.state.turns[::3]:
        prefix = fold(explored.state.contract, explored.events[: turn.based_on])
        assert OfflineScientist().propose(prefix, turn.asked) == turn


def test_probes_and_further_runs_of_the_best_take_a_third_of_a_block_at_most(explored):
    for block in (1, 2, 3):
        its = [it for it in explored.state.iterations.values() if it.block == block]
        costly = [it for it in its if it.proposal.mutation.kind == "replicate" or "probe" in it.proposal.strategy]
        assert 2 <= len(costly) <= 4


def test_a_run_on_another_draw_does_not_enter_the_mean():
    driver = table(("universal-recipe-validate", "new recipe beats old at 2+ seeds", "all seeds"))
    recipe(driver, 0.9, 0.8)
    before = summarise(driver.state, driver.state.nodes[2], "connectivity_R2")
    (proposal,) = driver.turn().proposals
    driver.end(proposal.iteration, 0.1)
    assert summarise(driver.state, driver.state.nodes[2], "connectivity_R2") == before
    assert " on draw 43; node 2 on the block's own draw: 0.8500" in driver.turn().reflections[0].observation


def test_several_slots_do_not_follow_one_row_twice():
    driver = table(("failure-probe", "3+ consecutive R2 >= 0.9", "end"))
    chain(driver, 0.5, 0.91, 0.95, 0.96)
    turn = OfflineScientist().propose(driver.state, 4)
    assert [p.strategy for p in turn.proposals] == ["failure-probe", "exploit", "exploit", "exploit"]


def test_children_start_from_their_parents_code():
    driver = table(replicate_every=0)
    codes(driver, 0.9)
    assert {p.code for p in OfflineScientist().propose(driver.state, 1).proposals} == {"tree2"}


def test_the_focus_of_the_last_boundary_comes_first():
    driver = table(n_iter_block=2, block_focus=("lr_W", "batch_size, then lr_W"))
    driver.explore(4, lambda c: 0.5)
    (change,) = driver.state.iterations[4].proposal.mutation.changes
    assert driver.state.boundaries[1].focus_keys == ("training.batch_size", LR)
    assert change.key == "training.batch_size"


def test_keys_and_directions_are_read_from_an_action():
    driver = table()
    desk = Desk(driver.state, 1, scene=None)
    found = named_keys(desk, "Increase batch_size, decrease lr_W or L1; never n_neurons")
    assert [(r.short, d) for r, d in found] == [("batch_size", "up"), ("lr_W", "down"), ("coeff_W_L1", "down")]


@pytest.mark.parametrize(
    ("rule", "value", "expected"),
    [
        (dict(type="float", low=1e-4, high=1e-2), 3e-3, [1e-4, 1e-2]),
        (dict(type="float", low=1e-4, high=1e-2), 1e-2, [1e-4]),
        (dict(type="int", low=0, high=2), 2, [0]),
        (dict(type="int", allowed=(8, 16, 32)), 8, [32]),
        (dict(type="int", allowed=(8, 16, 32)), 9, []),
        (dict(type="bool"), True, []),
        (dict(type="float"), 0.5, []),
    ],
)
def test_ends_of_a_range(rule, value, expected):
    assert range_ends(KeyRule(key="training.x", short="x", level="free", **rule), value) == expected


def test_configs_of_two_parents_are_merged():
    driver = table(("recombine", "2+ distant nodes with R2 > 0.9", "Merge best params from both nodes"))
    driver.put(0.5)
    driver.put(0.6, parent=1, changes=[(LR, 1e-2)])
    driver.put(0.92, parent=2, changes=[(L1, 1e-4)])
    driver.put(0.95, parent=1, changes=[("training.batch_size", 16)])
    proposal = proposed(driver)
    assert proposal.mutation.second_parent == 3 and len(proposal.mutation.changes) == 2
    config = driver.state.config_of(proposal)
    assert [configs.get(config, k) for k in (LR, L1, "training.batch_size")] == [1e-2, 1e-4, 16]
