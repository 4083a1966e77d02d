"""Run the real command line, but die by SIGKILL at a named point: `kill_driver.py POINT VICTIMS ITERATION ARGS...`.

The engine's code is untouched; the points are put around its functions from outside, in this process only.
VICTIMS is a comma list of engine, supervisor, child. With EDIT=ITERATION in the environment the driver is also the
person who changes the input files, before the turn that follows that iteration.
"""

import os
import signal
import sys
import time
from pathlib import Path

from orchestrator import cli
from orchestrator.core.events import (
    Amended,
    CodeChecked,
    LlmReserved,
    LlmSettled,
    RegimeReady,
    RunEnded,
    RunReserved,
    Turned,
    Waiting,
)
from orchestrator.engine import board, ends, evaluate, inputs, publish, snapshots, transcripts
from orchestrator.errors import UserError
from orchestrator.launch import folder
from orchestrator.store import atomic, journal
from orchestrator.vcs import code, git

POINT, VICTIMS, ITERATION = sys.argv[1], set(sys.argv[2].split(",")), int(sys.argv[3])
fired = False


def die(run_dir=None):
    """Kill whom the test wants dead, the engine last."""
    global fired
    if fired:
        return
    fired = True
    if run_dir is not None:
        pid = folder.claim_pid(run_dir)
        if "child" in VICTIMS:
            for child in children_of(pid):
                os.kill(child, signal.SIGKILL)
        if "supervisor" in VICTIMS:
            os.kill(pid, signal.SIGKILL)
    if "engine" in VICTIMS:
        os.kill(os.getpid(), signal.SIGKILL)


def children_of(pid):
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found.append(int(name))
    return found


append = journal.Journal.append


def killing_append(self, body):
    mine = {
        "before_turn": isinstance(body, Turned) and any(p.iteration == ITERATION for p in body.turn.proposals),
        "before_run_reserved": isinstance(body, RunReserved) and body.iteration == ITERATION,
        "after_run_reserved": isinstance(body, RunReserved) and body.iteration == ITERATION,
        "torn_run_ended": isinstance(body, RunEnded) and body.iteration == ITERATION,
        "after_run_ended": isinstance(body, RunEnded) and body.iteration == ITERATION,
        "before_boundary": isinstance(body, Turned) and body.turn.boundary is not None,
        "after_boundary": isinstance(body, Turned) and body.turn.boundary is not None,
        "before_regime_ready": isinstance(body, RegimeReady) and started(),
        "after_regime_ready": isinstance(body, RegimeReady) and started(),
        "before_amended": isinstance(body, Amended),
        "after_amended": isinstance(body, Amended),
        "after_llm_reserved": isinstance(body, LlmReserved) and body.call == ITERATION,
        "after_llm_settled": isinstance(body, LlmSettled) and body.call == ITERATION,
        "before_code_checked": isinstance(body, CodeChecked) and body.ok,
        "after_code_checked": isinstance(body, CodeChecked) and body.ok,
        "after_failed_check": isinstance(body, CodeChecked) and not body.ok,
        "after_turn": isinstance(body, Turned) and any(p.iteration == ITERATION for p in body.turn.proposals),
        "after_waiting": isinstance(body, Waiting) and body.call == ITERATION,
    }.get(POINT, False)
    if mine and POINT.startswith("before"):
        die()
    if mine and POINT.startswith("torn"):
        os.write(self._fd, b'{"v":1,"seq":99,"at":"2026-01-01T00:00:00Z","body":{"type":"run_en')
        die()
    event = append(self, body)
    if mine and POINT.startswith("after"):
        die()
    return event


journal.Journal.append = killing_append

keep = transcripts.Transcripts.keep


def killing_keep(self, exchange, request):
    """Die when a reply has arrived: before it is kept, or after."""
    if exchange.call == ITERATION and POINT == "before_reply_kept":
        die()
    keep(self, exchange, request)
    if exchange.call == ITERATION and POINT == "after_reply_kept":
        die()


transcripts.Transcripts.keep = killing_keep
tick = board.Board.tick


def killing_tick(self):
    for it in self.state.open_iterations:
        run = self.setup.paths.run(it.proposal.iteration, len(it.attempts))
        if POINT == "mid_training" and it.proposal.iteration == ITERATION and enough(run):
            die(run.root)
    tick(self)


def enough(run):
    """Whether the first epoch of the training is over."""
    return any(run.out.glob("checkpoint.*"))


board.Board.tick = killing_tick

judge = evaluate.judge


def killing_judge(setup, run, record):
    if POINT == "result_not_judged" and run.root.name == f"{ITERATION:04d}-1":
        die()
    return judge(setup, run, record)


evaluate.judge = killing_judge

replace = os.replace
rendered = publish.Views._write


def killing_write(self, path, text):
    """Die between the shadow copy and the view."""
    if POINT == "between_shadow_and_view" and path.name == "memory.md" and started():
        write_if_changed = atomic.write_if_changed
        publish._append = atomic.write_if_changed = lambda *a: die()
        rendered(self, path, text)
        atomic.write_if_changed = write_if_changed
    return rendered(self, path, text)


publish.Views._write = killing_write


def killing_replace(source, target, **options):
    if POINT == "mid_memory_write" and str(target).endswith("out/memory.md") and started():
        with open(source, "r+b") as file:
            file.truncate(20)
        die()
    return replace(source, target, **options)


link_tree = snapshots._link_tree


def killing_link(source, target):
    if POINT == "mid_copy" and source.name == "code":
        die()
    link_tree(source, target)


snapshots._link_tree = killing_link
rename = Path.rename


def killing_rename(self, target):
    if POINT == "between_renames" and self.name == "out.next":
        die()
    return rename(self, target)


Path.rename = killing_rename
copy_best = snapshots._copy_best


def killing_copy(run, folder):
    copy_best(run, folder)
    if POINT == "mid_snapshot":
        die()


snapshots._copy_best = killing_copy
end_wait = ends.wait


def killing_wait(adapters, run, go_on):
    """Die while the second regime's data are generated, or while an edited code is tried."""
    generated = POINT == "mid_generation" and ".prepare-" in run.root.name and started()
    if generated or (POINT == "mid_trial" and run.root.parent.name == "trials"):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and adapters.launcher.state(run.root) == "unclaimed":
            time.sleep(0.01)
        die(run.root if adapters.launcher.state(run.root) == "running" else None)
    end_wait(adapters, run, go_on)


ends.wait = killing_wait
commit_edit, set_refs, extract = code.commit_edit, git.set_refs, git._extract


def around(name, function):
    """Return a function that dies before or after it does its work."""

    def killing(*given):
        if "before_" + name == POINT:
            die()
        found = function(*given)
        if "after_" + name == POINT:
            die()
        return found

    return killing


def killing_extract(archive, folder):
    """Die when an edited code is half exported."""
    extract(archive, folder)
    if POINT == "mid_export" and os.path.isdir(
        os.path.join(HOME, "explorations", "toy", "out", "runs", f"{ITERATION - 1:04d}-1")
    ):
        die()


code.commit_edit, git.set_refs = around("commit", commit_edit), around("refs", set_refs)
git._extract = killing_extract
write_if_changed = atomic.write_if_changed


def killing_write_if_changed(path, text):
    kept = path.parent.parent.name == ".inputs" and path.parent.name == "1" and path.name == "config.yaml"
    if POINT == "mid_inputs" and kept:
        die()
    if POINT == "before_contract_view" and path.name == "contract.yaml" and (path.parent / ".inputs" / "1").exists():
        die()
    return write_if_changed(path, text)


atomic.write_if_changed = killing_write_if_changed
changed = inputs.Inputs.changed
EDITS = (
    ("instructions/toy.md", "range: 1E-4 to 1E-2", "range: 1E-4 to 4E-2"),
    ("instructions/toy.md", "connectivity_R2 > 0.9", "connectivity_R2 > 0.92"),
    ("explorations/toy/config.yaml", "ucb_c: 1.414", "ucb_c: 2.0"),
    ("explorations/toy/exploration.yaml", "replicate_every: 4", "replicate_every: 3"),
)


def editing(self, setup, state):
    """Change the files as a person would; at the point `paused` the first try is broken, and the engine dies of it."""
    if len(state.done) >= int(os.environ.get("EDIT", "1000")):
        config = Path(HOME, EDITS[2][0])
        if POINT == "paused":
            config.write_text("training: [\n" + config.read_text())
        elif config.read_text().startswith("training: [\n"):
            config.write_text(config.read_text().removeprefix("training: [\n"))
        for name, old, new in EDITS:
            Path(HOME, name).write_text(Path(HOME, name).read_text().replace(old + "\n", new + "\n"))
    try:
        return changed(self, setup, state)
    except UserError:
        if POINT == "paused":
            die()
        raise


inputs.Inputs.changed = editing


def started():
    return os.path.isdir(os.path.join(HOME, "explorations", "toy", "out", "runs", f"{ITERATION:04d}-1"))


HOME = sys.argv[sys.argv.index("--home") + 1]
atomic.os.replace = killing_replace
append_text = publish._append


def killing_append_text(path, text):
    if POINT == "mid_analysis_append" and f"## Iter {ITERATION - 1}:" in text:
        append_text(path, text[: len(text) // 2])
        die()
    append_text(path, text)


publish._append = killing_append_text

sys.exit(cli.main(sys.argv[4:]))
