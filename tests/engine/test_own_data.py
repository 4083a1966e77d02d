"""A regime from a person's own recording has no truth: which metrics may rank and judge it."""

import pytest

from orchestrator.core.contract import MetricRule
from orchestrator.core.exploration import Draws
from orchestrator.engine.orders import child_config
from orchestrator.engine.regimes import refusal, unfit
from tests import toy

OWN = toy.PREFLIGHT | {
    "truth": False, "absent_metrics": ["connectivity_R2", "sign_agreement"], "oracle": {}, "ceiling": {},
    "null": {"one_step_R2": -0.2},
}  # fmt: skip


def rule(name):
    return MetricRule(name=name, role="primary", direction="max", source="test")


def test_a_metric_that_needs_no_truth_needs_no_oracle():
    assert refusal(OWN, rule("one_step_R2"), ["one_step_R2", "training_time_min"]) is None
    assert "score None on one_step_R2" in refusal(OWN | {"truth": True}, rule("one_step_R2"))


def test_a_primary_that_needs_a_truth_is_refused_with_what_to_set():
    told = refusal(OWN, rule("connectivity_R2"))
    assert "your own data" in told and "set `primary: one_step_R2` in exploration.yaml" in told


def test_classes_that_need_a_truth_are_refused_with_what_to_set():
    told = refusal(OWN, rule("one_step_R2"), ["one_step_R2", "sign_agreement"])
    assert "the classes judge sign_agreement, which" in told
    assert "set `classes:` in exploration.yaml, for example {Converged: one_step_R2 > 0.9" in told


@pytest.mark.parametrize("part", [{"ok": False, "reason": "why"}, {"guard": {"ok": False, "sentence": "why"}}])
def test_a_preflight_that_did_not_pass_is_refused_all_the_same(part):
    assert refusal(OWN | part, rule("one_step_R2")) == "why"


def test_rules_for_draws_do_not_judge_a_recording():
    assert unfit(OWN, "one_step_R2", Draws(tries=2, ceiling=0.9, condition=100)) == ""
    assert "ceiling" in unfit(OWN | {"truth": True}, "one_step_R2", Draws(tries=2, ceiling=0.9))


def test_a_training_is_never_told_where_a_recording_lies():
    config = {"simulation": {"activity_file": "mouse.npy", "activity_name": "u", "n_neurons": 3}, "training": {}}
    assert child_config(config)["simulation"] == {"n_neurons": 3}
    assert config["simulation"]["activity_file"] == "mouse.npy"
