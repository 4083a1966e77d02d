"""Code as an experiment, end to end: real engine, real HTTP on loopback, real git, real processes in a sandbox."""

import hashlib
import subprocess

from orchestrator.core import edits
from tests import claude, code_toy, toy
from tests.code_script import STEP, CodeScript, Try, edit, key, on, parent, repair, view
from tests.e2e.test_claude_kills import state_of

ITERATIONS = 12
BETTER = "gain = gain + 0.02 * rate"
TABLE = "gain = gain + [0.01, 0.01][epoch]"
SCRIPT = CodeScript(
    {
        3: (  # too early: a key instead
            Try((parent(1), view(), edit(STEP, BETTER)), "a rate that gains", "code-modification"),
            Try((parent(1), key("batch_size", 32))),
        ),
        5: (on(4, BETTER, "a rate that gains"),),
        6: (  # out of scope; refused by its trial; a key beside it; then within all rules, and worse
            Try((parent(5), edit("SCALE = 1.0", "SCALE = 2.0")), "another scale", "code-modification"),
            Try((parent(5), edit(BETTER, "gain = gain + 0.1 * unknown")), "an unknown name", "code-modification"),
            Try((parent(5), edit(BETTER, "gain = gain - rate"), key("batch_size", 32)), "x", "code-modification"),
            Try((parent(5), edit(BETTER, "gain = gain - 0.05 * rate")), "a rate that loses", "code-modification"),
        ),
        7: (on(1, TABLE, "a table of rates"),),
        8: (repair(7, TABLE, "gain = gain + [0.01, 0.01][epoch % 2]", "the table is read in turns"),),
        9: (on(1, "gain = gain + (0.1, 0.2)[epoch]", "two rates"),),
        10: (repair(9, "(0.1, 0.2)[epoch]", "(0.1, 0.2, 0.3)[epoch]", "three rates"),),
        11: (repair(9, "(0.1", "(0.1", "x"), repair(10, "0.3)[epoch]", "0.3)[epoch + 0]", "three rates, again")),
        12: (  # the third repair is one too many; the worse edit again is refused with its result
            repair(11, "epoch + 0", "epoch % 3", "too late"),
            Try((parent(5), edit(BETTER, "gain = gain - 0.05 * rate  # again")), "loses again", "code-modification"),
            Try((parent(5), key("batch_size", 16))),
        ),
    }
)


def digest(folder):
    """Return the sha of every file of a checkout that is no output."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and "out" not in p.relative_to(folder).parts):
        found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


def explored(folder):
    """Return the home of an exploration in which code is edited in every way; its user has uncommitted work."""
    config = toy.CONFIG.replace("n_iter_block: 12", "n_iter_block: 20")
    exploration = toy.EXPLORATION + "budget: {first_wait_s: 0.05, longest_wait_s: 0.1}\n"
    home = code_toy.make_home(folder, config=config, exploration=exploration)
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=b", "commit", "-qm", "mine"]):
        subprocess.run(["git", *words], cwd=home, check=True)
    (home / "models" / "signal.py").write_text(code_toy.MODEL + "\n# not committed yet\n")
    before = digest(home)
    with claude.server(SCRIPT) as server:
        done = toy.run(home, "explore", "toy", "--iterations", str(ITERATIONS), **claude.environment(server))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "code edits: on (sandbox " in done.stdout
    assert digest(home) == before
    return home


def refused(state):
    return "\n".join(r.reason for r in state.refusals)


def what_may_not_be_is_refused_with_a_useful_answer(home):
    told = refused(state_of(home))
    assert "iteration 3 is number 3 of its block, and the first 4 establish its baseline" in told
    assert "outside" in told and "data_train_signal" in told
    assert "name 'unknown' is not defined" in told and "trainers/signal.py" in told
    assert "code and config never change together" in told
    assert "the same edit was tried: node 6 is worse" in told  # the repeat, with the old result
    assert "a repair of iteration 11 refused" in told


def what_became_of_each_edit(home):
    state = state_of(home)
    verdicts = {n.id: edits.judged(state, n).verdict for n in edits.code_nodes(state)}
    assert verdicts[5] == "keep" and verdicts[6] == "worse"
    assert verdicts[7] == verdicts[9] == verdicts[10] == verdicts[11] == "crashed"
    crashed = state.iterations[7].final
    assert (
        crashed.outcome == "crashed" and "IndexError" in crashed.traceback and "trainers/signal.py" in crashed.traceback
    )
    assert state.iterations[8].proposal.mutation.code.repairs == 7
    assert state.iterations[8].outcome == "ok" and state.nodes[8].parent == 1


def git_journal_and_views_agree(home):
    state = state_of(home)
    nodes = {n.id: state.iterations[n.id].proposal.mutation.code for n in edits.code_nodes(state)}
    refs = dict(
        reversed(line.split())
        for line in code_toy.git(home, "for-each-ref", "--format=%(objectname) %(refname)", "refs/nodes").splitlines()
    )
    assert refs == {f"refs/nodes/{n:04d}": change.commit for n, change in nodes.items()}
    analysis, memory = ((toy.out(home) / name).read_text() for name in ("analysis.md", "memory.md"))
    for node, change in nodes.items():
        proposal = state.iterations[node].proposal
        assert code_toy.git(home, "rev-parse", f"{change.commit}^{{tree}}").strip() == proposal.code
        body = code_toy.git(home, "log", "-1", "--format=%B", change.commit)
        unit = "data_train_signal"
        assert body.splitlines()[0] == f"[Iter {node}] {change.change} in {unit} (trainers/signal.py)"
        assert f"Iteration: {node}" in body and "Exploration: toy" in body and f"Parent: {proposal.parent}" in body
        above = code_toy.git(home, "rev-parse", f"{change.commit}^").strip()
        base = nodes.get(proposal.base)
        first = code_toy.git(home, "rev-list", "--max-parents=0", change.commit).strip()
        assert above == (base.commit if base else first)
        entry = analysis.partition(f"## Iter {node}:")[2].partition("## Iter ")[0]
        assert "CODE MODIFICATION:" in entry and "File: trainers/signal.py" in entry
        assert f"Mutation: [code] data_train_signal: {change.change}" in entry
        assert change.commit[:7] in entry
    assert "a rate that loses" in memory.partition("## Code Edits")[2].partition("\n## ")[0]
    best = code_toy.git(home, "rev-parse", "exploration/toy").strip()
    assert best == nodes[5].commit
    code_toy.git(home, "fsck", "--strict")
    assert not list((toy.out(home) / ".git").rglob("*.lock"))


def status_report_and_adopt(home):
    before = digest(home)
    status = toy.run(home, "status", "toy")
    assert status.returncode == 0 and "a rate that loses" in status.stdout and "worse" in status.stdout
    assert toy.run(home, "report", "toy").returncode == 0
    assert "a rate that gains" in (toy.out(home) / "report.html").read_text()
    adopted = toy.run(home, "adopt", "toy", "--node", "5")
    assert adopted.returncode == 0 and "+        gain = gain + 0.02 * rate" in adopted.stdout
    assert digest(home) == before
    subprocess.run(["git", "apply"], input=adopted.stdout, text=True, cwd=home, check=True)
    assert "0.02 * rate" in (home / "trainers" / "signal.py").read_text()
    subprocess.run(["git", "apply", "-R"], input=adopted.stdout, text=True, cwd=home, check=True)
    assert digest(home) == before


def test_code_as_an_experiment(tmp_path):
    """A pass, refusals by scope, rule and trial, a repair, a crash given up, an edit that is worse; then every view."""
    home = explored(tmp_path)
    what_may_not_be_is_refused_with_a_useful_answer(home)
    what_became_of_each_edit(home)
    git_journal_and_views_agree(home)
    status_report_and_adopt(home)
