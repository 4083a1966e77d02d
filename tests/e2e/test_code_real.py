"""Code edits on real training: the real trainers, their trial, the sandbox that this machine has, replies over HTTP."""

import subprocess

import pytest

from orchestrator.core import edits
from orchestrator.core.state import fold
from orchestrator.engine.opening import paths_of
from orchestrator.engine.sealing import sealed_contract
from orchestrator.store import journal
from tests import claude, real, toy
from tests.code_script import CodeScript, Try, edit, parent, repair
from tests.e2e.test_code import digest

ITERATIONS = 11
RATES = "    scheduler_W = LambdaLR(optimizer_W, lambda step: rate_factor(step / (n_epochs * Niter), *schedule))\n"
COSINE = "    scheduler_W = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer_W, T_max=n_epochs * Niter)\n"
SCHEDULED = '    scheduled = training.lr_scheduler != "none"\n'
ALWAYS = "    scheduled = True\n"
SUM = "            loss = sum(terms.values())\n"
LONG = "            loss = sum(terms.values()) * table[step]\n"
CODE = "code-modification"


def on(node, change, *edited):
    return Try((parent(node), *edited), change, CODE)


SCRIPT = CodeScript(
    {
        5: (on(1, "cosine annealing of the rate of W", edit(RATES, COSINE), edit(SCHEDULED, ALWAYS)),),
        6: (
            on(1, "other moments", edit("ESTIMATE_MOMENTS = (0.05,", "ESTIMATE_MOMENTS = (0.06,")),
            on(1, "a typing error", edit(SUM, SUM.replace("terms", "term"))),
            on(1, "no gradient reaches W", edit(SUM, SUM.replace("sum(terms.values())", "0.0 * sum(terms.values())"))),
        ),
        7: (on(1, "a table of weights", edit(SUM, f"            table = [1.0] * 100\n{LONG}")),),
        8: (repair(7, "table[step]", "table[step % 100]", "the table is read in turns"),),
        9: (on(1, "a short table", edit(SUM, f"            table = [1.0] * 101\n{LONG}")),),
        10: (repair(9, "[1.0] * 101", "[1.0] * 102", "a longer table"),),
        11: (repair(10, "[1.0] * 102", "[1.0] * 103", "a longer table still"),),
    },
    changes=(("learning_rate_W_start", 6e-3), ("learning_rate_start", 3e-4), ("batch_size", 16)),
)  # fmt: skip


@pytest.mark.science
def test_edits_of_the_real_trainer(tmp_path):
    home = real.make_home(tmp_path)
    spec = home / "explorations" / "sparse_gnn" / "exploration.yaml"
    spec.write_text(spec.read_text() + "\ncode: on\n")
    subprocess.run(["git", "init", "-q"], cwd=home, check=True)
    before = digest(home)
    with claude.server(SCRIPT) as server:
        words = ("explore", "sparse_gnn", "--iterations", str(ITERATIONS))
        done = toy.run(home, *words, timeout=800, OMP_NUM_THREADS="1", **claude.environment(server))
    assert done.returncode == 0, done.stdout + done.stderr
    assert digest(home) == before
    paths = paths_of(home, "sparse_gnn", None)
    state = fold(sealed_contract(paths), journal.read(paths.journal))
    verdicts = {n.id: edits.judged(state, n) for n in edits.code_nodes(state)}
    assert set(verdicts) == {5, 6, 7, 8, 9, 10, 11}, done.stdout
    assert state.iterations[5].outcome == "ok" and verdicts[5].n == 1
    assert verdicts[6].verdict == "worse"
    assert [verdicts[i].verdict for i in (7, 9, 10, 11)] == ["crashed"] * 4
    assert "IndexError" in state.iterations[7].final.traceback
    assert state.iterations[8].outcome == "ok"
    told = "\n".join(r.reason for r in state.refusals)
    assert "ESTIMATE_MOMENTS" in told and "name 'term' is not defined" in told
    assert done.stdout.count("refused by its trial") == 1
    replayed = toy.run(home, "replay", "sparse_gnn")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    toy.wait_for(lambda: not toy.processes_of(home))
