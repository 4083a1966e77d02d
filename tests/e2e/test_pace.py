"""A time target end to end: real engine, real children whose stated training time goes with their budget key.

The children state times far below what they take, so that the supervisor's clock never bounds them on a slow machine.
"""

import copy
import json
import re

import pytest

from orchestrator.engine.opening import paths_of
from orchestrator.engine.sealing import state_of
from orchestrator.llm.demo import DemoScript
from tests import claude, toy
from tests.paced import LOOP

LOOP_MIN = 1e-6
TARGET = 1e-4
LINES = f"time_target_min: {TARGET}\n"
CONFIG = toy.CONFIG.replace("data_augmentation_loop: 1\n", "data_augmentation_loop: 400\n")
OPTIONS = ("--epochs", "2", "--loop-min", str(LOOP_MIN))


def paced(home):
    """Let the home's trainer name its cost and budget keys."""
    path = home / "trainers" / "schema.json"
    schema = json.loads(path.read_text())
    schema["systems"]["signal"] |= {"cost": ["training.n_epochs", LOOP], "budget": LOOP}
    path.write_text(json.dumps(schema))
    return home


def home_of(folder):
    return paced(toy.make_home(folder, *OPTIONS, config=CONFIG, exploration=toy.EXPLORATION + LINES))


def explore(home, *words, **env):
    done = toy.run(home, "explore", "toy", *words, **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def proposals(home):
    state = state_of(paths_of(home, "toy", None))
    return [it.proposal for _, it in sorted(state.iterations.items())]


def test_the_runs_come_to_the_target_and_every_view_says_so(tmp_path):
    home = home_of(tmp_path)
    told = explore(home, "--iterations", "5")
    made = proposals(home)
    assert made[0].predicted_min is None
    assert [p.predicted_min for p in made[1:]] == [pytest.approx(p, rel=0.2) for p in [TARGET] * 4]
    first = made[1].mutation.changes
    assert (first[-1].key, first[-1].old, first[-1].new) == (LOOP, 400, 100)
    entries = toy.out(home).joinpath("analysis.md").read_text()
    assert "Time: no estimate yet, trained 0.0004 min (target 0.0001, over the target)" in entries
    assert "Time: estimated 0.0001 min, trained 0.0001 min (target 0.0001)" in entries
    assert "; estimated 0.0001 min, trained 0.0001 min (target 0.0001)" in told
    line = "Training time: target 0.0001 min, held by data_augmentation_loop; last 0.0001 min (iter 5)"
    assert line in toy.run(home, "status", "toy").stdout
    assert line in (toy.out(home) / "memory.md").read_text()
    assert toy.run(home, "report", "toy").returncode == 0
    assert "estimated 0.0001 min, trained 0.0001 min" in (toy.out(home) / "report.html").read_text()
    lint = toy.run(home, "lint", "toy").stdout
    assert f"Time target: 0.0001 min a training, held by {LOOP}; work = training.n_epochs x {LOOP}" in lint


def test_an_exploration_that_was_stopped_decides_as_one_that_was_not(tmp_path):
    whole, parts = home_of(tmp_path / "a"), home_of(tmp_path / "b")
    explore(whole, "--iterations", "6")
    for total in ("2", "4", "6"):
        explore(parts, "--iterations", total)
    plain = [p.model_dump(exclude={"evidence"}) for p in proposals(whole)]
    assert [p.model_dump(exclude={"evidence"}) for p in proposals(parts)] == plain


class Paced(DemoScript):
    """In iteration 2 it scales the budget beside its key, and tells nobody in iteration 3."""

    def _plan(self, task, slot):
        calls = super()._plan(task, slot)
        if task.slots[slot] == 2:
            calls.append(("set_hyperparameter", {"slot": slot, "key": "data_augmentation_loop", "value": 120}))
        return calls


def test_claude_sets_the_budget_beside_its_key_over_real_http(tmp_path):
    script = Paced(claude.CHANGES, {}, "learning_rate_W_start")
    exploration = claude.EXPLORATION + LINES
    home = toy.make_home(tmp_path, *OPTIONS, config=CONFIG, instruction=claude.INSTRUCTION, exploration=exploration)
    with claude.server(script) as served:
        explore(paced(home), "--iterations", "3", **claude.environment(served))
        said = json.dumps(served.bodies)
    assert "- node 1 as it is: estimated training 0.0004 min (target 0.0001); data_augmentation_loop 400 -> 100" in said
    assert "data_augmentation_loop: 400 -> 120. Estimated training 0.00012 min (target 0.0001)" in said
    state = state_of(paths_of(home, "toy", None))
    assert {t.scientist for t in state.turns} == {"claude"} and not any(t.instead for t in state.turns)
    second, third = (state.iterations[i].proposal for i in (2, 3))
    assert [(c.key, c.new) for c in second.mutation.changes][1:] == [(LOOP, 120)]
    assert second.predicted_min == pytest.approx(1.2e-4)
    assert LOOP not in [c.key for c in third.mutation.changes] and third.predicted_min is not None


LIMIT = "training.max_minutes"
SETTLED = f"settle: {{{LOOP}: {{level: free, range: [100, 1000]}}}}\n"


def limited(folder, exploration=toy.EXPLORATION, **fields):
    """Return a home whose trainer names a limit of 0.0005 min, and a work that goes with loops and batch size."""
    schema = copy.deepcopy(toy.SCHEMA)
    body = schema["systems"]["signal"]
    body["sections"]["training"]["max_minutes"] = toy.key("float", 5e-4, 0.0)
    body |= {"cost": [LOOP, "training.batch_size"], "budget": LOOP, "time_limit": LIMIT}
    return toy.make_home(folder, *OPTIONS, config=CONFIG, exploration=exploration + SETTLED, schema=schema, **fields)


def test_no_config_is_tried_that_would_pass_the_limit_and_every_view_says_so(tmp_path):
    home = limited(tmp_path)
    explore(home, "--iterations", "6")
    made = proposals(home)
    assert all(p.predicted_min <= 5e-4 for p in made[1:])
    fitted = [p.mutation for p in made if p.mutation.fitted]
    assert fitted and all([c.key for c in m.changes] == ["training.batch_size", LOOP] for m in fitted)
    entries = toy.out(home).joinpath("analysis.md").read_text()
    assert "Time: no estimate yet, trained 0.0004 min (limit 0.0005)" in entries
    assert "batch_size: 8 -> 16, data_augmentation_loop: 400 -> 250 (to keep the time limit)" in entries
    line = "Training time: limit 0.0005 min (training.max_minutes); last "
    assert line in toy.run(home, "status", "toy").stdout
    assert line in (toy.out(home) / "memory.md").read_text()
    assert "Time limit: 0.0005 min a training (training.max_minutes)" in toy.run(home, "lint", "toy").stdout


class Mending(DemoScript):
    """It submits a larger batch, is refused, and sets the budget that it is told beside it."""

    def _mend(self, task):
        told = re.search(r"the largest data_augmentation_loop that fits is (\d+)", task.refusal)
        beside = {"slot": min(task.slots), "key": "data_augmentation_loop", "value": int(told[1])}
        return [*super()._mend(task), ("set_hyperparameter", beside)]


def test_claude_is_refused_over_the_limit_and_submits_the_budget_that_fits_over_real_http(tmp_path):
    script = Mending((("batch_size", 16),), {}, "learning_rate_W_start")
    home = limited(tmp_path, claude.EXPLORATION, instruction=claude.INSTRUCTION)
    with claude.server(script) as served:
        explore(home, "--iterations", "2", **claude.environment(served))
        said = json.dumps(served.bodies)
    assert "this config is expected to take 0.0008 min (from iteration 1, which took 0.0004), over the limit" in said
    state = state_of(paths_of(home, "toy", None))
    assert {t.scientist for t in state.turns} == {"claude"} and not any(t.instead for t in state.turns)
    assert [r.reason for r in state.refusals if "over the limit of 0.0005" in r.reason]
    made = state.iterations[2].proposal.mutation
    assert [(c.key, c.new) for c in made.changes] == [("training.batch_size", 16), (LOOP, 250)] and made.fitted
