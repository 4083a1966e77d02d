"""A pause ends when the file is mended, whatever is in flight."""

import io

from orchestrator.core.events import RunEnded, Turned
from orchestrator.engine import explorer, runs
from orchestrator.engine.context import Adapters
from orchestrator.engine.opening import Wishes, load, make_folder
from orchestrator.launch.scripted import ScriptedLauncher, ScriptedRun
from orchestrator.scientist.offline import OfflineScientist
from orchestrator.store import journal
from orchestrator.views.console import PlainObserver
from tests import toy
from tests.engine.test_orders_of_completion import EXPLORATION


class Person(PlainObserver):
    """Breaks config.yaml when iteration 1 has ended, and mends it as soon as the engine says so."""

    def __init__(self, config):
        super().__init__(io.StringIO())
        self.config = config

    def event(self, event, state):
        if isinstance(event.body, RunEnded) and event.body.iteration == 1:
            self.config.write_text("training: [\n")

    def say(self, text):
        if "paused until it is mended" in text:
            self.config.write_text(toy.CONFIG)


def test_a_mended_file_is_taken_up_while_another_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "POLL_S", 0.0)
    monkeypatch.setattr(explorer, "POLL_S", 0.0)
    home = toy.make_home(tmp_path, exploration=EXPLORATION)

    def script(order):
        return ScriptedRun(polls=300 if order["iteration"] == 2 else 1, metrics={"connectivity_R2": 0.5})

    setup = load(home, "toy", Wishes())
    make_folder(setup)
    adapters = Adapters(OfflineScientist(), ScriptedLauncher(script), "none", slots=2)
    assert explorer.Explorer(setup, adapters, Person(setup.paths.config_yaml)).run(3) == 0
    bodies = [e.body for e in journal.read(toy.out(home) / "journal.jsonl")]
    third = next(
        i for i, b in enumerate(bodies) if isinstance(b, Turned) and any(p.iteration == 3 for p in b.turn.proposals)
    )
    second = next(i for i, b in enumerate(bodies) if isinstance(b, RunEnded) and b.iteration == 2)
    assert third < second
