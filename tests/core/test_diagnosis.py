"""The degeneracy gap and the diagnosis tables."""

import pytest

from orchestrator.core import diagnosis
from orchestrator.core.contract import Condition, DiagnosisRule, Gap
from orchestrator.core.records import Metric
from orchestrator.formats import entry
from tests.factory import Driver, contract


def row(text, **bounds):
    conditions = tuple(Condition(metric=m, op=op, value=v) for m, (op, v) in bounds.items())
    return DiagnosisRule(conditions=conditions, diagnosis=text)


TABLE = (
    row("Healthy", test_pearson_100=(">", 0.95), connectivity_R2=(">", 0.9), degeneracy_gap=("<", 0.1)),
    row("Severely degenerate", test_pearson_100=(">", 0.95), degeneracy_gap=(">", 0.7)),
    row("Degenerate", test_pearson_100=(">", 0.95), degeneracy_gap=(">", 0.1)),
)
GAP = Gap(minuend="test_pearson_100", subtrahend="connectivity_R2", untrusted_above=0.3)


def finished(pearson, connectivity, **changes):
    driver = Driver(contract(**({"diagnosis": TABLE, "gap": GAP} | changes)))
    driver.turn()
    values = {"connectivity_R2": connectivity, "test_pearson_100": pearson}
    driver.end(1, metrics={k: Metric(value=v, reason=None if v is not None else "nan") for k, v in values.items()})
    driver.turn()
    return driver.state


@pytest.mark.parametrize(
    ("pearson", "connectivity", "found", "untrusted"),
    [
        (0.99, 0.97, "Healthy", False),
        (0.98, 0.80, "Degenerate", False),
        (0.999, 0.466, "Degenerate", True),
        (0.96, 0.1, "Severely degenerate", True),
        (0.4, 0.3, None, False),
    ],
)
def test_the_first_row_that_holds_is_the_diagnosis(pearson, connectivity, found, untrusted):
    state = finished(pearson, connectivity)
    it = state.iterations[1]
    rule = diagnosis.diagnose(state.contract, it)
    assert (rule.diagnosis if rule else None) == found
    assert diagnosis.untrusted(state.contract, it) is untrusted
    assert diagnosis.gap(state.contract, it) == pytest.approx(pearson - connectivity)


def test_the_entry_says_it_and_distrusts_the_dynamics():
    state = finished(0.999, 0.466)
    text = entry.render(state, state.iterations[1])
    assert "Degeneracy: gap=0.53 (test_pearson_100=0.999, connectivity_R2=0.466); Degenerate; " in text
    assert "metrics of the dynamics are not evidence (gap > 0.3)" in text


def test_a_metric_that_was_not_measured_gives_no_gap():
    state = finished(None, 0.9)
    it = state.iterations[1]
    assert diagnosis.gap(state.contract, it) is None and not diagnosis.untrusted(state.contract, it)
    assert "Degeneracy" not in entry.render(state, it)


def test_an_instruction_without_a_gap_has_none():
    state = finished(0.999, 0.1, gap=None, diagnosis=())
    assert diagnosis.line(state.contract, state.iterations[1]) is None
