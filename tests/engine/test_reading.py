"""What a scientist may read: on a real exploration of the toy home, with everything that must not be read planted."""

import itertools
import os
import shutil

import pytest

from orchestrator.core.events import Amended
from orchestrator.core.records import RuleEdit
from orchestrator.core.state import fold
from orchestrator.engine import opening, sealing, texts
from orchestrator.store import journal
from tests import toy
from tests.shelf import BAD, opened, refused

VIEWS = ("memory.md", "contract.yaml", "instruction.md", "ucb_scores.txt", "best.yaml")


def test_views_are_what_the_engine_wrote_and_do_not_need_it(home):
    library, state = opened(home)
    written = {name: (toy.out(home) / name).read_text() for name in VIEWS}
    for name in VIEWS:
        (toy.out(home) / name).write_text("changed")
    assert {name: library.view_file(state, name) for name in VIEWS} == written
    assert library.view_file(state, "config.yaml") == toy.CONFIG
    assert "Notes from people" in library.view_file(state, "notes.md")


def test_views_are_those_of_the_prefix(home):
    library, _ = opened(home)
    paths = opening.paths_of(home, "toy", None)
    events = journal.read(paths.journal)
    contract = sealing.sealed_contract(paths)
    at = next(i for i, e in enumerate(events) if e.body.type == "run_ended")
    before, after = (fold(contract, events[: at + more]) for more in (0, 1))
    assert "best.yaml was refused" in refused(library, before, "best.yaml")
    assert "no nodes yet" in library.view_file(before, "ucb_scores.txt")
    assert "Iter 1: running" in library.view_file(before, "memory.md")
    assert "none has yet" in refused(library, before, "1") and "no such run" in refused(
        library, before, "runs/0001-1/stdout.log"
    )
    assert "connectivity_R2" in library.view_file(after, "1") and library.view_file(after, "best.yaml")
    (home / "explorations" / "toy" / "config.yaml").write_text("changed: later")  # not compiled yet
    assert library.view_file(after, "config.yaml") == toy.CONFIG


def test_runs_that_have_ended_are_open(home):
    library, state = opened(home)
    log = (toy.out(home) / "runs" / "0003-1" / "analysis.log").read_text()
    for name in ("3", "iter 3", "Iteration 3", "iter3", "runs/0003-1/analysis.log"):
        assert library.view_file(state, name) == log
    assert "iteration: 3" in library.view_file(state, "runs/0003-1/run.yaml")
    assert "toy training from epoch 0" in library.view_file(state, "runs/0001-1/stdout.log")
    progress = library.view_file(state, "runs/0003-1/out/progress.jsonl").splitlines()
    assert progress[0] == "(32 of 40 lines, evenly spaced)" and len(progress) == 33
    assert '"step": 1,' in progress[1] and '"step": 40,' in progress[-1]


def test_a_crashed_run_has_its_output_in_place_of_a_log(home):
    library, state = opened(home)
    assert "something went wrong" in library.view_file(state, "runs/0002-1/stdout.log")
    told = library.view_file(state, "2")
    assert told.startswith("(the run left no analysis.log; its stdout.log)") and "something went wrong" in told


NOT_RUNS = {
    "4": "does not exist", "0": "does not exist", "runs/0004-1/analysis.log": "no such run has ended",
    "runs/0003-2/analysis.log": "of iteration 3: 1", "runs/0003-1/out/estimate.npz": "only analysis.log",
    "runs/0003-1/out/checkpoint.pt": "only analysis.log", "runs/0003-1": "only analysis.log",
    "runs/0003-1/result.json": "only analysis.log", "runs/0003-1/plots/loss.png": "view_plot",
    "runs/0003-1/launch.json": "only analysis.log", "runs/3-1/analysis.log": "not among",
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_RUNS)
def test_other_files_of_runs_are_closed(explored, name):
    library, state = opened(explored)
    assert NOT_RUNS[name] in refused(library, state, name)


@pytest.mark.parametrize("file", ["analysis.log", "run.yaml", "stdout.log", "out/progress.jsonl"])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "gone"])
def test_a_file_of_a_run_that_is_something_else_is_refused(home, file, kind):
    library, state = opened(home)
    path = toy.out(home) / "runs" / "0003-1" / file
    path.unlink()
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    told = refused(library, state, f"runs/0003-1/{file}")
    other = "run.yaml" if file == "stdout.log" else "stdout.log"
    assert "no such regular file" in told and "it has runs/0003-1/" in told and f"runs/0003-1/{other}" in told
    assert "root:" not in told


def test_a_folder_of_a_run_that_is_a_link_is_refused(home):
    library, state = opened(home)
    out = toy.out(home) / "runs" / "0003-1" / "out"
    out.rename(out.with_name("elsewhere"))
    out.symlink_to("elsewhere")
    assert "no such regular file" in refused(library, state, "runs/0003-1/out/progress.jsonl")


CLOSED = {
    "analysis.md": "history table in this turn holds every iteration",
    "journal.jsonl": "engine's record",
    "prompts/0001.json": "said to a model",
    "blobs/" + "a" * 64: "said to a model",
    "truth/W.txt": "the truth",
    "data/abc/truth/W.txt": "the truth",
    "DATA/x": "the truth",
    "out/estimate.npz": "a run's own output",
    "explorations/toy/out/journal.jsonl": "a run's own output",
    "out/journal.jsonl": "a run's own output",
    ".env": "hidden files",
    ".git/config": "hidden files",
    "docs/.hidden": "hidden files",
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_names_say_why_also_when_the_instruction_names_them(explored, name):
    library, state = opened(explored)
    told = refused(library, state, name)
    assert CLOSED[name] in told and "You may read memory.md" in told


@pytest.mark.parametrize("name", BAD, ids=lambda n: ascii(n)[:20])
def test_names_of_the_wrong_form_are_refused(explored, name):
    library, state = opened(explored)
    told = refused(library, state, name)
    assert told.isprintable() and ("was refused: expected " in told or name in ("#2", "##"))


NOT_FILES = {
    "docs/out.md": "leads out of its folder",
    "docs/to_journal.md": "leads into the exploration's output",
    "docs/broken.pdf": "the PDF cannot be read",
    "docs/locked.pdf": "encrypted",
    "docs/scan.pdf": "no text in it",
    "docs/latin.txt": "no UTF-8 text",
    "docs/huge.txt": "more than 1048576 bytes",
    "docs/missing.md": "no such file",
    "docs/pipe.md": "no such file",
    "docs": "no such file",
    "docs/fenced.md": "not among",
    "docs/unnamed.md": "not among",
    "trainers/__main__.py": "not among",
    "docs/backgroundnotes.md": "did you mean docs/background notes.md?",
    "memory.txt": "did you mean memory.md?",
}


@pytest.mark.parametrize("name", NOT_FILES)
def test_other_files_are_refused_with_their_reason(home, name):
    library, state = opened(home)
    told = refused(library, state, name)
    assert NOT_FILES[name] in told and "the key" not in told


def test_files_that_the_instruction_names_are_open(home):
    library, state = opened(home)
    assert library.view_file(state, "docs/background notes.md") == "two populations\n"
    assert library.view_file(state, "docs/inside.md") == "two populations\n"
    assert library.view_file(state, "own.md") == "beside the config\n"
    shown = library.view_file(state, "docs/paper.pdf")
    assert shown == "[page 1 of 2]\nAsymptotic dynamics\n\n[page 2 of 2]\nSecond page\n"
    assert {"docs/paper.pdf", "own.md", "trainers/signal.py"} <= set(library.names(state))
    assert not {"docs/missing.md", ".env", "journal.jsonl", "docs/fenced.md"} & set(library.names(state))


def test_code_is_the_exported_code(home):
    library, state = opened(home)
    before = library.view_file(state, "trainers/signal.py")
    assert "The loop." in before
    (home / "trainers" / "signal.py").write_text("changed later")
    assert library.view_file(state, "trainers/signal.py") == before
    shutil.rmtree(toy.out(home) / "code")
    assert library.view_file(state, "trainers/signal.py") == "changed later"


def test_a_rule_that_the_scientist_wrote_opens_no_file(home):
    library, state = opened(home)
    assert state.opened is not None
    row = "| Condition | Strategy | Action |\n| --- | --- | --- |\n| never | **rest** | none |\n"
    state.opened = state.opened.model_copy(update={"instruction": state.opened.instruction + f"\n{row}"})
    state.boundaries[1] = boundary = _Boundary()
    state.boundary_rules[1] = state.contract
    assert "docs/unnamed.md" in library.view_file(state, "instruction.md") and boundary
    assert "not among" in refused(library, state, "docs/unnamed.md")
    contract = state.contract
    for words, named in (("nothing new", False), ("`docs/unnamed.md`", True)):
        text = f"{state.opened.instruction}\nSee {words}.\n"
        amended = Amended(number=1, contract_sha=contract.sha, contract=contract.model_dump(mode="json"),
                          instruction=text, diff="")  # fmt: skip
        state.amendments.append((state.seq, amended))
        assert "docs/unnamed.md" in library.view_file(state, "instruction.md")
        if named:
            assert library.view_file(state, "docs/unnamed.md") == "nobody named it"  # a person's own words open it
        else:
            assert "not among" in refused(library, state, "docs/unnamed.md")


class _Boundary:
    rules = (RuleEdit(op="add", strategy="leak", condition="always", action="read `docs/unnamed.md`", reason="r"),)


def test_long_texts_come_in_parts_that_join_to_the_whole(home):
    library, state = opened(home)
    text = "".join(f"line {i}\n" for i in range(6000))
    (home / "docs" / "background notes.md").write_text(text)
    parts, name = [], "docs/background notes.md"
    for number in (1, 2, 3):
        shown = library.view_file(state, name if number == 1 else f"{name}#{number}")
        body, _, told = shown.rpartition("\n(cut here: ")
        parts.append(body.removeprefix(f"(goes on from part {number - 1})\n"))
        assert len(parts[-1]) <= texts.CHARACTERS and f"of {len(text)}" in told
    assert "".join(parts) == text
    assert "ask for docs/background notes.md#2" in library.view_file(state, name)
    assert "has 3 part(s)" in refused(library, state, f"{name}#4") and "has 3" in refused(library, state, f"{name}#0")


def test_logs_show_their_ends(home):
    library, state = opened(home)
    log = toy.out(home) / "runs" / "0003-1" / "stdout.log"
    log.write_text("".join(f"line {i}\n" for i in range(1000)))
    shown = library.view_file(state, "runs/0003-1/stdout.log").splitlines()
    assert shown[0].startswith("(the last 200 lines of ") and shown[1:] == [f"line {i}" for i in range(800, 1000)]
    log.write_bytes(b"x" * 10**6 + b"\n" + b"\x1b[31m" + b"0%\r50%\r100%\r\n" + b"y" * 30_000 + b"\nthe end\x00\x07")
    shown = library.view_file(state, "runs/0003-1/stdout.log")
    assert shown.endswith("y\nthe end\n") and len(shown) < texts.CHARACTERS + 200 and "\x07" not in shown
    log.write_bytes(b"0%\r50%\r\x1b[32m100%\x1b[0m\r\nno newline")
    assert library.view_file(state, "runs/0003-1/stdout.log") == "100%\nno newline\n"
    log.write_bytes(b"")
    assert library.view_file(state, "runs/0003-1/stdout.log") == "(runs/0003-1/stdout.log is empty)\n"


def test_progress_of_any_size_is_sampled(home, monkeypatch):
    library, state = opened(home)
    path = toy.out(home) / "runs" / "0003-1" / "out" / "progress.jsonl"
    path.write_text("".join(f'{{"step": {i}, "loss": null}}\n' for i in range(400_000)))
    assert path.stat().st_size > texts.WHOLE_BYTES
    shown = library.view_file(state, "runs/0003-1/out/progress.jsonl").splitlines()
    assert shown[0].startswith("(32 lines of") and len(shown) == 33
    steps = [int(line.split()[1].strip(",")) for line in shown[1:]]
    assert steps == sorted(steps) and steps[0] == 0 and steps[-1] == 399_999
    assert max(b - a for a, b in itertools.pairwise(steps)) < 2 * 400_000 / 31
    with open(path, "wb") as file:
        file.truncate(2**33)  # a hole of 8 GiB, without a line
    assert len(library.view_file(state, "runs/0003-1/out/progress.jsonl")) < 20_000
    path.write_text("x" * 5000 + "\n")
    assert library.view_file(state, "runs/0003-1/out/progress.jsonl") == "x" * texts.LINE + " (cut)\n"


def test_what_cannot_be_seen_is_left_out(home):
    library, state = opened(home)
    log = toy.out(home) / "runs" / "0003-1" / "analysis.log"
    log.write_bytes("a\u202eb\U000e0041c\x00\x1b]0;t\x07d\xa0é\r\ne\xff".encode("utf-8", "surrogatepass") + b"\xff")
    assert library.view_file(state, "3") == "abc]0;td\xa0é\ne\xff\ufffd"
    log.write_bytes(b"m: 1\n" * 300_000)
    assert "ask for 3#2" in library.view_file(state, "3") and "first 1048576 bytes" in library.view_file(state, "3#53")
