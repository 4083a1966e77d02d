import pytest

from orchestrator.core.exploration import is_budget_key, read_exploration
from orchestrator.errors import InstructionError

SMALL = {"instruction": "x", "system": "signal"}


def test_defaults():
    found = read_exploration(SMALL)
    assert read_exploration(SMALL | {"scientist": "offline", "keep": "all"}).keep == "all"
    assert (found.slots, found.launcher, found.sandbox, found.replicate_every, found.code) == (
        1, "local", "auto", 6, "off"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"instrution": "x"}, "nothing reads this field.*did you mean instruction"),
        ({"budget_usd": 5}, "nothing reads this field.*did you mean budget"),
        ({"budget": {"max_usdd": 5}}, "budget.max_usdd: nothing reads.*did you mean max_usd"),
        ({"model": {"prize": 5}}, "model.prize: nothing reads.*fields: name, effort|did you mean prices"),
        ({"budget": {"max_usd": float("inf")}}, "budget.max_usd"),
        ({"limits": {"walls": 1}}, "limits.walls: nothing reads this field"),
        ({"slots": 0}, "slots"),
        ({"mode": "async"}, "mode"),
        ({"roles": ["boss"]}, "roles"),
        ({"code": "sometimes"}, "code"),
        ({"launcher": "ray"}, "launcher"),
        ({"scientist": "gpt"}, "scientist.*'offline' or 'claude'"),
        ({"keep": "best"}, "keep.*nothing honours"),
        ({"stop": {"until": "tomorrow"}}, "stop.until"),
        ({"keep": "best"}, "keep.*nothing honours"),
        ({"time_target_min": 0}, "time_target_min: .*greater than 0"),
        ({"time_target_min": float("inf")}, "time_target_min: .*finite"),
        (
            {"profiles": {"cpu": {"time_target_min": True}}},
            "profile cpu: time_target_min is a number of minutes above 0",
        ),
        (
            {"regimes": [{"name": "a", "profiles": {"full": {"time_target_min": 2}}}]},
            "one value holds for all regimes",
        ),
        ({"limits": {"wall_s": 0}}, "limits.wall_s"),
        ({"replicate_every": -1}, "replicate_every"),
        ({"profiles": {"cpu": {"training.learning_rate_start": 1}}}, "a profile scales the budget only"),
        ({"settle": {"lr": {"range": [2, 1]}}}, "the first number is the smaller one"),
        ({"settle": {"lr": {"level": "loose"}}}, "settle.lr.level"),
        ({"regimes": [{"name": "a"}, {"name": "a"}]}, "regimes: 2 regimes are called a"),
        ({"regimes": [{"simulation": {}}]}, "regimes.0.name: this field is needed"),
        ({"regimes": [{"name": "a b"}]}, "regimes.0.name"),
        ({"regimes": [{"name": "a", "simulatoin": {}}]}, "nothing reads this field.*did you mean simulation"),
        ({"regimes": [{"name": "a", "profiles": {"cpu": {"training.loss": "mse"}}}]}, "may not set training.loss"),
        ({"regimes": [{"name": "a", "profiles": {"gpu": {}}}]}, "no profile 'gpu'; profiles: full"),
        ({"compare": 3}, "compare"),
    ],
)
def test_refused(extra, message):
    with pytest.raises(InstructionError, match=message):
        read_exploration(SMALL | extra, "exploration.yaml")


def test_every_fault_has_its_line():
    with pytest.raises(InstructionError) as error:
        read_exploration({"slots": 0, "x": 1}, "e.yaml")
    text = str(error.value)
    assert text.count("e.yaml: ") == 4
    assert "instruction: this field is needed" in text


def test_budget_keys():
    assert is_budget_key("graph_model.hidden_dim_update")
    assert is_budget_key("claude.n_epochs")
    assert not is_budget_key("claude.ucb_c")
    assert not is_budget_key("training.hidden_dim")


def test_a_profile_sets_the_block_length_and_a_regime_does_not():
    found = read_exploration(SMALL | {"profiles": {"cpu": {"claude.n_iter_block": 6}}}, "e.yaml")
    assert found.overrides("cpu") == {"claude.n_iter_block": 6}
    regime = {"name": "a", "profiles": {"cpu": {"claude.n_iter_block": 6}}}
    with pytest.raises(InstructionError, match="one value holds for all regimes"):
        read_exploration(SMALL | {"profiles": {"cpu": {}}, "regimes": [regime]}, "e.yaml")
