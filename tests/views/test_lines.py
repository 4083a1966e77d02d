"""Single lines that people read at the end, in `make status` and on the page."""

from orchestrator.core.contract import RegimeRule
from orchestrator.views import lines
from tests.between import block, driver


def test_every_regime_has_its_best_beside_the_present_one():
    made = driver(
        regimes=tuple(RegimeRule(name=n, values={"simulation.n_neurons": v}) for n, v in (("a", 10), ("b", 20)))
    )
    block(made, 0.5, 0.6)
    assert lines.other_bests(made.state) == []
    block(made, 0.3, 0.2)
    assert lines.other_bests(made.state) == ["best in a: node 2, connectivity_R2 0.6000 (n=1)"]
    assert lines.best_line(made.state).startswith("best so far in b: node 3, connectivity_R2 0.3000 (n=1")


def test_without_regimes_there_is_one_best():
    made = driver()
    block(made, 0.5)
    assert lines.other_bests(made.state) == []
