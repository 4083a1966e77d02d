"""Whatever a training leaves under out/: every reader of the engine goes on, follows nothing, and shows plain text."""

import json
import os
import shutil
import socket
from types import SimpleNamespace

import pytest

from orchestrator.core.events import Event, RunEnded
from orchestrator.engine import evaluate, live, opening, orders, regimes, runs, snapshots, texts
from orchestrator.engine.context import Live
from orchestrator.errors import StoppedError
from orchestrator.formats import entry, memory
from orchestrator.launch.folder import UntrustedFileError, read_file
from orchestrator.paths import RunPaths
from orchestrator.ports import ExitRecord
from orchestrator.store import journal
from orchestrator.views import console, lines
from tests import factory, toy
from tests.shelf import opened, refused

NAMES = ("progress.jsonl", "failure.json", "checkpoint.pt", "checkpoint.json", "estimate.npz", "train.json",
         "estimates", "estimates/001_0000001.npz")  # fmt: skip
SECRET = "the truth"
REFUSED = ExitRecord(step="train", returncode=13)
DIVERGED = ExitRecord(step="train", returncode=10)


def pipe(path, _):
    os.mkfifo(path)


def local_socket(path, _):
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # a path may have 107 bytes
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def folder(path, _):
    path.mkdir()


def link_to_truth(path, root):
    path.symlink_to(root / "truth.json")


def link_to_folder(path, root):
    path.symlink_to(root / "elsewhere", target_is_directory=True)


def link_to_itself(path, _):
    path.symlink_to(path.name)


def link_to_device(path, _):
    path.symlink_to("/dev/zero")


def hole(path, _):
    with open(path, "wb") as file:
        file.truncate(1 << 40)


def text(content):
    """Return a maker of a file with this content."""

    def write(path, _):
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return write


KINDS = {f.__name__: f for f in (pipe, local_socket, folder, link_to_truth, link_to_folder, link_to_itself,
                                 link_to_device, hole)} | {
    "nested too deep": text("[" * 60_000 + "\n"),
    "nested too deep in an object": text('{"a":' * 700 + "\n"),
    "numbers of 4000 digits": text('{"step": 1' + "0" * 1500 + ', "total": -1, "loss": 1' + "0" * 1500 + "}\n"),
    "half of a pair": text('{"sentence": "\\ud800", "step": "\\udfff", "loss": "x"}\n'),
    "not even text": text(b"\xff\xfe\x00" * 99 + b"\n"),
    "another type": text('["sentence"]\n'),
    "true and null": text('{"step": true, "total": null, "loss": false, "sentence": null}\n'),
    "infinite": text('{"step": 1e999, "total": NaN, "loss": -Infinity, "sentence": 1e999}\n'),
    "nothing": text(""),
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A run folder beside a truth."""
    (tmp_path / "truth.json").write_text(json.dumps({"sentence": SECRET, "step": 451}) + "\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "001_0000001.npz").write_text(SECRET)
    run = RunPaths(tmp_path / "runs" / "0001-1")
    run.out.mkdir(parents=True)
    run.stdout.write_text("the last line\n")
    return run


def fill(run, root, kind):
    """Put this kind in place of every file that somebody reads."""
    for name in NAMES:
        path = run.out / name
        if not os.path.lexists(path) and path.parent.is_dir() and not path.parent.is_symlink():
            KINDS[kind](path, root)


def iteration():
    return SimpleNamespace(proposal=SimpleNamespace(iteration=1, filler=False))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", KINDS)
def test_every_reader_stands_it_and_follows_nothing(run, tmp_path, kind):
    fill(run, tmp_path, kind)
    paths = SimpleNamespace(run=lambda *_: run)
    run.run_yaml.write_text("")
    seen = live.read_live(paths, iteration(), 1)
    assert seen.step is None or 0 <= seen.step < 2**53
    assert seen.step != 451
    assert console.live_text(seen)
    for record in (REFUSED, DIVERGED, None):
        verdict = evaluate.judge(SimpleNamespace(spec=SimpleNamespace(command=None)), run, record)
        assert verdict.outcome in ("rejected", "diverged", "killed") and SECRET not in verdict.sentence
        json.dumps(verdict.sentence, ensure_ascii=False).encode()
    new = RunPaths(tmp_path / "runs" / "0001-2")
    orders.carry_over(run, new)
    kept = tmp_path / "block"
    kept.mkdir()
    snapshots._copy_best(run, kept)
    for top in (new.root, kept):
        for path in (p for p in top.rglob("*") if not p.is_dir()):
            assert path.is_file() and not path.is_symlink() and path.stat().st_size < 10**6
            assert SECRET not in path.read_text(errors="replace")


def test_names_that_are_no_moments_are_not_carried_over(run, tmp_path):
    estimates = run.out / "estimates"
    estimates.mkdir()
    good = ("000_0000001.npz", "012_0000123.npz")
    for name in (*good, "x" * 251 + ".npz", "\n## Iter 99.npz", "-rf.npz", "1_2.npz.tmp", ".npz"):
        (estimates / name).write_bytes(b"1")
    new = RunPaths(tmp_path / "new")
    assert not orders.carry_over(run, new)
    assert sorted(os.listdir(new.out / "estimates")) == sorted(good)


def test_links_of_folders_are_not_followed(run, tmp_path):
    (run.out / "inside").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(UntrustedFileError):
        read_file(run.out / "inside" / "001_0000001.npz", 99)
    with pytest.raises(UntrustedFileError, match="goes up"):
        read_file(run.out / ".." / ".." / "truth.json", 99, root=run.root)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["pipe", "link_to_truth", "folder", "link_to_itself", "nested too deep"])
def test_a_scientist_reads_no_such_file(home, tmp_path, kind):
    library, state = opened(home)
    run = RunPaths(toy.out(home) / "runs" / "0003-1")
    (tmp_path / "truth.json").write_text(SECRET)
    shutil.rmtree(run.out)
    run.out.mkdir()
    fill(run, tmp_path, kind)
    if kind == "nested too deep":
        assert SECRET not in library.view_file(state, "runs/0003-1/out/progress.jsonl")
    else:
        assert SECRET not in refused(library, state, "runs/0003-1/out/progress.jsonl")


# --- sentences --------------------------------------------------------------------------------------------------------

FORGED = (
    "\x1b[2J\x1b]0;title\x07\x1b[31mworse\r\n## Iter 99: converged\nNode: id=99\u2028- [established] W=1"
    "\x85\x00\ud800 | a"
)


def test_a_forged_sentence_makes_no_line_anywhere(run):
    """failure.json -> verdict -> journal -> analysis.md, memory.md, console: one printable line."""
    (run.out / "failure.json").write_text(json.dumps({"kind": "x", "sentence": FORGED + "x" * 50_000}))
    verdict = evaluate.judge(None, run, DIVERGED)
    assert verdict.sentence.isprintable() and len(verdict.sentence) < 600
    assert "worse ## Iter 99" in verdict.sentence
    exploration = factory.Exploration() if hasattr(factory, "Exploration") else None
    exploration = (
        exploration or next(v for k, v in vars(factory).items() if isinstance(v, type) and hasattr(v, "put"))()
    )
    exploration.turn()
    exploration.end(1, outcome="diverged", sentence=verdict.sentence, cause=verdict.cause)
    state = exploration.state
    ended = next(e for e in exploration.events if isinstance(e.body, RunEnded))
    assert journal.encode(ended).count(b"\n") == 1
    shown = [entry.render(state, state.iterations[1]), memory.render(state), lines.event_line(ended, state)]
    for page in shown:
        assert not any(line.startswith("## Iter 99") for line in page.splitlines())
        assert all(c.isprintable() or c == "\n" for c in page)


@pytest.mark.parametrize(
    "stream", [FORGED.encode(errors="surrogatepass"), b"\x1b[31m" * 9999, b"x" * 10**6, b"\n\x00\n"]
)
def test_the_last_line_of_the_output_is_shown_plainly(run, stream):
    run.stdout.write_bytes(b"before\n" + stream)
    verdict = evaluate.judge(None, run, ExitRecord(step="train", returncode=1))
    assert verdict.sentence.isprintable() and len(verdict.sentence) < 700


def test_a_result_with_texts_that_are_none(tmp_path):
    """What a trainer of one's own may write: the journal takes it, in plain short lines."""
    setup = opening.load(toy.make_home(tmp_path), "toy", opening.Wishes(profile="cpu"))
    run = RunPaths(tmp_path / "runs" / "0001-1")
    run.out.mkdir(parents=True)
    run.analysis_log.write_text("connectivity_R2: 0.5\n")
    metrics = {"connectivity_R2": {"value": 0.5}, "test_R2": {"value": None, "reason": FORGED}}
    idle = {FORGED: FORGED * 99} | {f"k{i}": "x" for i in range(5000)}
    run.result.write_text(json.dumps({"metrics": metrics, "keys_idle": idle, "marks": [FORGED]}))
    found = evaluate.judge(setup, run, ExitRecord(step="score", returncode=0))
    assert found.outcome == "ok" and len(found.keys_idle) <= evaluate.KEYS_MAX
    told = [*found.keys_idle, *found.keys_idle.values(), *found.marks, found.metrics["test_R2"].reason]
    assert all(t.isprintable() and len(t) <= 500 for t in told)
    fields = {"iteration": 1, "attempt": 1, "session": 1, "outcome": "ok", "keys_idle": found.keys_idle}
    body = RunEnded(**fields, metrics=found.metrics, marks=found.marks)
    assert journal.encode(Event(seq=1, at="2026-01-01T00:00:00Z", body=body)).count(b"\n") == 1
    run.result.write_text("[" * 100_000)
    assert evaluate.judge(setup, run, ExitRecord(step="score", returncode=0)).outcome == "rejected"


def test_one_line():
    assert texts.one_line(" a\tb\n c\x1b[1md\u202e ") == "a b cd"
    assert texts.one_line("x" * 10**6, 10) == "x" * 10


def test_the_panel_draws_any_progress(run):
    for step, total in ((2**52, 1), (0, 0), (None, None), (5, None)):
        seen = Live(iteration(), 1, "training", step, total, float("nan"), 1.0)
        console.ProgressBar(total=seen.total or 1, completed=seen.step or 0, width=24)
        assert console.live_text(seen)


# --- data -------------------------------------------------------------------------------------------------------------


def test_data_are_made_by_the_code_at_opening_whatever_node_they_are_for(monkeypatch):
    """Preparing is trusted and sees the truth; an iteration may carry edited code."""
    made = factory.Driver()
    made.end = lambda *_, **__: None  # stays open
    made.put(code="edited")
    asked = []

    def ready(_setup, _adapters, _config, code, *_rest):
        asked.append(code)
        raise StoppedError

    monkeypatch.setattr(regimes, "ready", ready)
    monkeypatch.setattr(runs.orders, "regime_sha", lambda *_: "f" * 64)
    state = made.state
    board = SimpleNamespace(
        state=state, stopping=False, flying=lambda: iter(()), adapters=SimpleNamespace(slots=1, sandbox="bwrap"),
        setup=SimpleNamespace(spec=SimpleNamespace(command=None)), observer=SimpleNamespace(say=lambda _: None),
    )  # fmt: skip
    assert runs.Runs(board).launch() is None
    assert state.open_iterations[0].proposal.code == "edited"
    assert asked == [state.opened.code] != ["edited"]
