import math

import pytest

from orchestrator.core import stats, tree
from orchestrator.core.contract import MetricRule
from orchestrator.core.records import Metric
from orchestrator.formats import ucb_scores
from tests.factory import Driver, contract


def grown(values, **changes):
    driver = Driver(contract(replicate_every=0, **changes))
    for i, value in enumerate(values, start=1):
        driver.turn()
        driver.end(i, value) if value is not None else driver.end(i, outcome="crashed")
    return driver.state


def test_puct_by_hand():
    assert tree.ucb("puct", 0.6918, 1.414, 4, 1) == pytest.approx(2.1058)
    assert tree.ucb("puct", 0.5122, 1.414, 4, 1) == pytest.approx(1.9262)


def test_ucb1_by_hand():
    assert tree.ucb("ucb1", 0.5, 2.0, 3, 2) == pytest.approx(0.5 + 2 * math.sqrt(math.log(4) / 2))


def test_scores_are_sorted_and_count_descendants():
    state = grown([0.3, 0.5, 0.7])
    rows = tree.scores(state, 1)
    assert [r.ucb for r in rows] == sorted((r.ucb for r in rows), reverse=True)
    by_node = {r.node: r for r in rows}
    assert by_node[1].visits == 1 + sum(1 for n in state.nodes.values() if n.id != 1)
    for row in rows:
        assert row.ucb == pytest.approx(row.summary.mean + 1.414 * math.sqrt(3) / (1 + row.visits))


def test_failed_nodes_sort_last_by_type_not_by_a_magic_number():
    state = grown([-5.0, None])
    rows = tree.scores(state, 1)
    assert [r.node for r in rows] == [1, 2]
    assert rows[1].ucb is None
    text = ucb_scores.render(state, 1)
    assert "Node 2: UCB=none" in text and "crashed" in text
    assert "R2=-5.000" in text


def test_a_fresh_block_says_root():
    state = grown([0.1])
    assert "no nodes yet: parent=root" in ucb_scores.render(state, 2)


def test_directions():
    assert tree.reward(MetricRule(name="m", role="primary"), 2.0) == 2.0
    assert tree.reward(MetricRule(name="m", role="primary", direction="min"), 2.0) == -2.0
    target = MetricRule(name="m", role="primary", direction="target", target=1.0)
    assert tree.reward(target, 3.0) < tree.reward(target, 1.1)


def test_parents_outside_the_block_are_root():
    driver = Driver(contract(replicate_every=0))
    driver.explore(8, lambda c: 0.5)
    assert driver.state.nodes[7].parent is None and driver.state.nodes[7].block == 2
    assert all(r.parent in (None, 7) for r in tree.scores(driver.state, 2))


def test_noise_is_pooled_over_replicates_and_draws():
    driver = Driver(contract(replicate_every=2))
    driver.turn()
    driver.end(1, 0.5)
    driver.turn()
    driver.end(2, 0.7)
    assert driver.state.iterations[2].node == 1
    floor = stats.noise(driver.state, "connectivity_R2")
    assert floor.sd == pytest.approx(math.sqrt(0.02)) and floor.degrees == 1
    summary = stats.summarise(driver.state, driver.state.nodes[1], "connectivity_R2")
    assert summary.mean == pytest.approx(0.6) and summary.n == 2


def test_a_metric_without_value_gives_a_reason_not_a_number():
    driver = Driver()
    driver.turn()
    driver.end(1, Metric(value=None, reason="inf"))
    summary = stats.summarise(driver.state, driver.state.nodes[1], "connectivity_R2")
    assert summary.mean is None and summary.reason == "inf"
    assert tree.best(driver.state) is None


def test_one_lucky_run_does_not_outrank_a_config_that_was_good_twice():
    driver = Driver(contract(replicate_every=2))
    for i, value in enumerate((0.80, 0.84), start=1):
        driver.turn()
        driver.end(i, value)
    assert driver.state.iterations[2].node == 1
    driver.turn()
    driver.end(3, 0.825)
    assert stats.noise(driver.state, "connectivity_R2").sd == pytest.approx(0.0283, abs=1e-4)
    assert tree.best(driver.state).id == 1
