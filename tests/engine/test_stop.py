"""A request to stop that comes while slots are filled."""

from orchestrator.core.events import RunReserved
from orchestrator.launch.scripted import ScriptedLauncher, ScriptedRun
from orchestrator.store import journal
from tests import toy
from tests.engine.test_orders_of_completion import EXPLORATION, engine


class Interrupted(ScriptedLauncher):
    """A signal arrives while a run is handed over."""

    stop = None

    def submit(self, run_dir, spec):
        super().submit(run_dir, spec)
        self.stop()


def test_no_further_run_is_started_after_a_request_to_stop(tmp_path):
    home = toy.make_home(tmp_path, exploration=EXPLORATION)
    launcher = Interrupted(lambda order: ScriptedRun(polls=None))
    explorer = engine(home, launcher, 8, "refill")
    launcher.stop = explorer.stop
    assert explorer.run(12) == 4
    events = journal.read(toy.out(home) / "journal.jsonl")
    assert [e.body.iteration for e in events if isinstance(e.body, RunReserved)] == [1]
    proposed = explorer.state.iterations
    assert len(proposed) > 1
    assert explorer.state.open_iterations == list(proposed.values())  # all are run by the next one
