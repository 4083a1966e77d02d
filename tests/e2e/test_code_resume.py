"""A code exploration that goes on where something is missing: its data, or the sandbox that its edited code ran in."""

import io
import shutil

import pytest

from orchestrator.core.contract import Scope
from orchestrator.core.events import Alarm, CodeChecked, Session
from orchestrator.engine import explorer
from orchestrator.engine.confirm import Confirmation
from orchestrator.engine.context import Adapters
from orchestrator.engine.opening import Wishes, load
from orchestrator.errors import NeedsPersonError
from orchestrator.launch.local import LocalLauncher
from orchestrator.scientist.offline import OfflineScientist
from orchestrator.store import journal
from orchestrator.views.console import PlainObserver
from tests import code_toy, toy
from tests.factory import Driver, contract


def explored(folder, iterations):
    home = code_toy.make_home(folder, patches={"01-better.patch": code_toy.BETTER})
    go_on(home, iterations)
    return home


def go_on(home, iterations):
    done = toy.run(home, "explore", "toy", "--iterations", str(iterations))
    assert done.returncode == 0, done.stdout + done.stderr


def bodies(home, kind):
    return [e.body for e in journal.read(toy.out(home) / "journal.jsonl") if isinstance(e.body, kind)]


def test_data_that_a_person_removed_are_made_again_before_a_trial(tmp_path):
    home = explored(tmp_path, 4)
    shutil.rmtree(toy.out(home) / "data")
    shutil.rmtree(toy.out(home) / "code")
    go_on(home, 5)
    assert [(c.ok, c.sentence) for c in bodies(home, CodeChecked)] == [(True, "")]


def test_edited_code_does_not_run_on_a_machine_without_a_sandbox_unless_a_person_accepts_it(tmp_path):
    home = explored(tmp_path, 5)
    adapters = Adapters(OfflineScientist(), LocalLauncher(), "none")

    def engine():
        return explorer.Explorer(load(home, "toy", Wishes()), adapters, PlainObserver(io.StringIO()))

    runs = len(list((toy.out(home) / "runs").iterdir()))
    assert engine().run(6) == 3
    (alarm,) = bodies(home, Alarm)
    assert alarm.kind == "sandbox" and "no sandbox to run it in" in alarm.sentence
    assert len(list((toy.out(home) / "runs").iterdir())) == runs
    with pytest.raises(NeedsPersonError, match="no sandbox to run it in"):
        Confirmation(load(home, "toy", Wishes()), adapters, print).run(1)
    path = home / "explorations" / "toy" / "exploration.yaml"
    path.write_text(path.read_text().replace("sandbox: auto", "sandbox: none"))
    assert engine().run(6) == 0


def test_a_conversation_that_began_with_a_sandbox_does_not_go_on_without_one():
    scope = Scope(path="trainers/signal.py", function="f", permission="ONLY")
    before, after = Driver(contract(code="on", scopes=(scope,))), Driver(contract(code="on", scopes=(scope,)))
    session = after.state.session.model_copy(update={"session": 2, "sandbox": "bwrap"})
    before.add(session)
    after.add(session)
    assert explorer._rules(before.state) == explorer._rules(after.state)
    after.add(Session.model_validate(session.model_dump() | {"session": 3, "sandbox": "none"}))
    assert explorer._rules(before.state) != explorer._rules(after.state)
