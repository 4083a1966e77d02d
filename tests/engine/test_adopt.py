"""`adopt`: a real toy exploration with code edits in its journal, and a user's checkout that must stay as it is."""

import hashlib
import os
import shutil
import subprocess

import pytest

from orchestrator import cli
from orchestrator.core.events import Event, Turned
from orchestrator.core.records import CodeChange, CodeEdit, Mutation, Turn
from orchestrator.engine import opening, sealing
from orchestrator.store import journal
from orchestrator.vcs import code, git
from tests import toy

OLD = "def f():\n    return 1\n\n\n\n\n\ndef g():\n    return 1\n"
FIRST, SECOND = OLD.replace("1", "2", 1), OLD.replace("1", "2")
EDIT = CodeEdit(path="models/mlp.py", unit="f", added=1, removed=1, sha="s")


def append(paths, proposal):
    """Add a proposal to the journal, by hand."""
    state = sealing.state_of(paths)
    turn = Turn(turn=len(state.turns) + 1, based_on=state.seq, scientist="hand", proposals=(proposal,))
    event = Event(seq=state.seq + 1, at="2026-01-01T00:00:00Z", body=Turned(turn=turn))
    with open(paths.journal, "a", encoding="utf-8") as file:
        file.write(event.model_dump_json() + "\n")


def edit(paths, texts, base, change):
    """Commit an edit of a node's code and propose it; return its node."""
    state = sealing.state_of(paths)
    parent = state.nodes[base]
    above = git.opening_commit(paths.out, "exploration/toy") if base == 1 else git.refs(paths.out)["refs/nodes/0003"]
    iteration, tree = state.last_iteration + 1, code.tree_with(paths.out, parent.code, texts)
    commit = code.commit_edit(paths.out, tree, above, f"[Iter {iteration}] {change}\n", iteration)
    git.set_refs(paths.out, {iteration: commit}, "exploration/toy", commit)
    mutation = Mutation(kind="code", code=CodeChange(change=change, edits=(EDIT,), commit=commit))
    fields = {"iteration": iteration, "parent": base, "base": base, "code": tree, "mutation": mutation,
              "config_sha": parent.config_sha}  # fmt: skip
    append(paths, state.iterations[1].proposal.model_copy(update=fields))
    return iteration


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home with nodes 1 and 2 as they ran, and the edits 3 and 4; 5 runs 4 again."""
    home = toy.make_home(tmp_path_factory.mktemp("adopt"))
    (home / "models/mlp.py").write_text(OLD)
    (home / "models/it's.py").write_text("x = 1\n")
    (home / "README.md").write_text("not code\n")
    subprocess.run(["git", "init", "-q", home], check=True)
    commit(home)
    done = toy.run(home, "explore", "toy", "--iterations", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    paths = opening.paths_of(home, "toy", None)
    assert edit(paths, {"models/mlp.py": FIRST}, 1, "f gives 2") == 3
    assert edit(paths, {"models/mlp.py": SECOND, "models/it's.py": "x = 2\n"}, 3, "g\nas well") == 4
    again = {"iteration": 5, "base": 4, "mutation": Mutation(kind="replicate", replicate_of=4)}
    append(paths, sealing.state_of(paths).iterations[4].proposal.model_copy(update=again))
    return home


@pytest.fixture
def home(made, tmp_path):
    target = tmp_path / "a 'home'"
    shutil.copytree(made, target, symlinks=True)
    return target


def commit(home):
    who = {"GIT_AUTHOR_NAME": "u", "GIT_AUTHOR_EMAIL": "u@x", "GIT_COMMITTER_NAME": "u", "GIT_COMMITTER_EMAIL": "u@x"}
    subprocess.run(["git", "-C", home, "add", "models", "trainers", "README.md"], check=True)
    subprocess.run(["git", "-C", home, "commit", "-q", "-m", "own"], check=True, env=os.environ | who)


def adopt(home, node, capfdbinary):
    status = cli.main(["--home", str(home), "adopt", "toy", "--node", str(node)])
    out, err = capfdbinary.readouterr()
    return status, out, err.decode()


def apply(home, patch, *options):
    return subprocess.run(["git", "apply", *options], cwd=home, input=patch, capture_output=True)


def own_files(home):
    """Return mode, time and content of everything in the checkout but the exploration's output."""
    found = {}
    for path in sorted(home.rglob("*")):
        if toy.out(home) not in (path, *path.parents):
            status = path.lstat()
            data = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = (status.st_mode, status.st_mtime_ns, data)
    return found


def test_the_patch_brings_the_nodes_code_into_the_checkout(home, capfdbinary):
    status, patch, told = adopt(home, 4, capfdbinary)
    assert status == 0 and apply(home, patch).returncode == 0
    assert (home / "models/mlp.py").read_text() == SECOND and (home / "models/it's.py").read_text() == "x = 2\n"
    assert told.count("\n") == 1 and "node 4, no connectivity_R2: not run yet. Edits: iteration 3 (" in told
    assert "): f gives 2; iteration 4 (" in told and "): g as well" in told


def test_the_patch_of_a_node_has_no_edits_of_its_children(home, capfdbinary):
    status, patch, _ = adopt(home, 3, capfdbinary)
    assert status == 0 and apply(home, patch).returncode == 0
    assert (home / "models/mlp.py").read_text() == FIRST and (home / "models/it's.py").read_text() == "x = 1\n"


def test_the_program_prints_the_patch_alone_on_standard_output(home, tmp_path):
    done = toy.run(home, "adopt", "toy", "--node", "4")
    assert done.returncode == 0 and done.stdout.startswith("diff --git a/models/it's.py b/models/it's.py\n")
    moved = tmp_path / "root"
    moved.mkdir()
    toy.out(home).rename(moved / "toy")
    assert toy.run(home, "adopt", "toy", "--node", "4", "--root", str(moved)).stdout == done.stdout


def test_a_reader_that_goes_away_is_no_bug(home):
    with subprocess.Popen(
        toy.command(home, "adopt", "toy", "--node", "4"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=toy.environment(),
    ) as process:  # fmt: skip
        process.stdout.close()
        told = process.stderr.read().decode()
    assert process.returncode == 0 and "Traceback" not in told and "Exception" not in told


@pytest.mark.parametrize("committed", [False, True])
def test_nothing_of_the_checkout_is_written_whatever_is_uncommitted(home, capfdbinary, committed):
    (home / "models/mlp.py").write_text(OLD.replace("def g", "# mine\ndef g"))
    (home / "models/new.py").write_text("new = 1\n")
    if committed:
        commit(home)
    else:
        subprocess.run(["git", "-C", home, "add", "models/mlp.py"], check=True)
        (home / "models/mlp.py").write_text(OLD.replace("def g", "# mine again\ndef g"))
    before = own_files(home)
    status, patch, told = adopt(home, 4, capfdbinary)
    assert own_files(home) == before
    assert status == 0 and patch and told.count("\n") == 2
    assert "since the exploration was opened, and by this patch: models/mlp.py. Where" in told and "--3way" in told
    assert apply(home, patch).returncode != 0 if committed else True


def test_with_own_committed_work_the_patch_merges_in_three_ways(home, capfdbinary):
    (home / "models/mlp.py").write_text(OLD.replace("def f", "# mine\n\n\n\n\n\ndef f"))
    commit(home)
    _, patch, _ = adopt(home, 4, capfdbinary)
    assert apply(home, patch, "--3way").returncode == 0
    assert (home / "models/mlp.py").read_text() == SECOND.replace("def f", "# mine\n\n\n\n\n\ndef f")


def test_own_work_elsewhere_is_said_to_be_no_trouble(home, capfdbinary):
    (home / "models/new.py").write_text("new = 1\n")
    (home / "README.md").write_text("changed\n")
    status, patch, told = adopt(home, 4, capfdbinary)
    assert "not by this patch: models/new.py" in told and "README" not in told
    assert status == 0 and apply(home, patch).returncode == 0


def test_a_checkout_without_packages_still_gives_the_patch(home, capfdbinary):
    shutil.rmtree(home / "models")
    status, patch, told = adopt(home, 4, capfdbinary)
    assert status == 0 and patch and "cannot be compared" in told


@pytest.mark.parametrize(
    ("node", "told"),
    [
        (1, "node 1 of toy has the code that the exploration was opened with: nothing to adopt"),
        (5, "iteration 5 ran node 4 again; nodes with code edits: 3, 4"),
        (99, "toy has no node 99; nodes with code edits: 3, 4"),
    ],
)
def test_what_has_no_patch_says_so_and_prints_nothing(home, capfdbinary, node, told):
    status, out, err = adopt(home, node, capfdbinary)
    assert (status, out) == (2, b"") and told in err


def test_a_lost_commit_is_said(home, capfdbinary):
    shutil.rmtree(toy.out(home) / ".git")
    status, out, err = adopt(home, 4, capfdbinary)
    assert (status, out) == (2, b"") and "no git repository" in err


def test_an_exploration_with_a_command_of_its_own_has_no_code_edits(home, capfdbinary):
    state = sealing.state_of(opening.paths_of(home, "toy", None))
    events = journal.read(toy.out(home) / "journal.jsonl")
    from orchestrator.core.records import sha_of

    contract = events[0].body.contract | {"command": ["python", "mine.py"]}
    body = events[0].body.model_copy(update={"contract": contract, "contract_sha": sha_of(contract)})
    lines = [events[0].model_copy(update={"body": body}), *events[1:]]
    (toy.out(home) / "journal.jsonl").write_text("".join(e.model_dump_json() + "\n" for e in lines))
    (toy.out(home) / "contract.yaml").unlink()
    status, out, err = adopt(home, 4, capfdbinary)
    assert state.contract.command is None
    assert (status, out) == (2, b"") and "runs its own command (python mine.py)" in err


@pytest.mark.parametrize(("iteration", "told"), [(1, ""), (4, "NODE=4"), (5, "the code of node 4 was edited")])
def test_a_start_from_an_edited_node_says_that_its_code_stays_behind(home, iteration, told):
    notes = opening.code_left_behind(home, opening.Wishes(origin=f"toy:{iteration}"))
    assert len(notes) == bool(told) and told in "".join(notes)
