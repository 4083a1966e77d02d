"""What people see of code edits: at the terminal, in `make status`, in the report."""

import shlex

import pytest

from orchestrator.core.events import Amended
from orchestrator.core.records import sha_of
from orchestrator.errors import UserError
from orchestrator.paths import Paths
from orchestrator.store import journal
from orchestrator.vcs import code, git
from orchestrator.views import lines, report, report_edits, report_tables, status
from tests.edited import again, change, edit, propose, reflect
from tests.factory import Driver, contract
from tests.views.test_report import NASTY, self_contained


@pytest.fixture
def paths(tmp_path):
    return Paths(source=tmp_path, out=tmp_path / "o u't")


@pytest.fixture
def driver():
    made = Driver(contract(n_iter_block=40))
    made.put(0.5)
    edit(made, 0.9, text="cosine schedule, with a warm-up")
    edit(made, 0.1)
    return made


def journalled(driver, paths):
    """Write the driver's events as a journal, its contract sealed."""
    whole = contract(n_iter_block=40).model_dump(mode="json")
    sealed = driver.events[0].body.model_copy(update={"contract": whole, "contract_sha": sha_of(whole)})
    events = [driver.events[0].model_copy(update={"body": sealed}), *driver.events[1:]]
    paths.journal.write_bytes(b"".join(map(journal.encode, events)))


def test_the_terminal_says_what_a_judged_edit_came_to(driver):
    reflect(driver, 1, 2, 3)
    assert lines.event_line(driver.events[-1], driver.state).splitlines() == [
        "iter 2: code edit of node 2: keep (provisional, n=1), difference +0.4000",
        "iter 3: code edit of node 3: worse (provisional, n=1), difference -0.4000",
    ]
    again(driver, 2, 0.9, 8)
    driver.put(0.5, of=1, seeds=(8, 42))
    reflect(driver, 4, 5)
    told = "iter 5: code edit of node 2: keep (n=2), difference +0.4000"
    assert lines.event_line(driver.events[-1], driver.state).splitlines() == [told]


def test_a_switch_of_code_edits_is_said_when_it_is_taken_up(driver):
    made = contract(n_iter_block=40, code="on", unsandboxed=True)
    sealed = made.model_dump(mode="json")
    driver.add(Amended(number=1, contract_sha=made.sha, contract=sealed, instruction="", diff="+++ exploration.yaml"))
    told = lines.event_line(driver.events[-1], driver.state).splitlines()
    assert told[0].endswith("taken up: exploration.yaml") and told[1].startswith("code edits: ")
    driver.add(Amended(number=2, contract_sha=made.sha, contract=sealed, instruction="", diff="+++ config.yaml"))
    assert len(lines.event_line(driver.events[-1], driver.state).splitlines()) == 1


def test_a_nodes_line_has_its_verdict(driver):
    def line(node):
        return lines.node_line(driver.state, 0, driver.state.iterations[node])

    assert line(2) == "2: [code] data_train_signal: cosine schedule, with a warm-up  0.9000 partial, code keep *"
    assert line(3).endswith("code worse") and "code" not in line(1)
    number = propose(driver, change())
    assert line(number).endswith("waiting")
    driver.end(number, outcome="crashed")
    assert line(number).endswith("crashed")


def test_status_lists_what_was_left_behind_with_the_command_that_shows_it(driver, paths):
    paths.out.mkdir()
    journalled(driver, paths)
    with journal.Journal(paths.journal, paths.engine_lock):
        told = status.show(paths).splitlines()
    at = told.index("code edit left behind: node 3, trainers/signal.py: data_train_signal, clip the gradient")
    assert told[at + 1].startswith("  worse (provisional, n=1): connectivity_R2 0.1000 against 0.5000 of node 1")
    assert shlex.split(told[at + 2]) == ["git", "-C", str(paths.out), "show", change("edit3").commit[:12]]
    assert sum("left behind" in line for line in told) == 1


def test_the_report_has_every_edit_with_its_command(driver, paths):
    found = self_contained(report.render(paths, driver.state))
    for words in ("keep (provisional, n=1)", "worse (provisional, n=1)", "cosine schedule, with a warm-up",
                  change("edit2").commit[:10], f"show {change('edit3').commit[:12]}"):  # fmt: skip
        assert words in found.text, words
    assert "no code was edited" in report_edits.section(Driver(contract()).state, paths.out)


def test_the_report_shows_the_diff_where_it_is_lent(driver, paths):
    def diff(old, new):
        if new == "tree3":
            raise UserError("no git")
        return f"{old}->{new} +a < b \udcff" + "x" * 30_000

    section = report_edits.section(driver.state, paths.out, diff)
    assert "<pre class=flat>tree-&gt;tree2 +a &lt; b ?" in section and section.count("<pre") == 1
    assert "(cut here)" in section and len(section) < 25_000
    section.encode()


def test_a_written_report_shows_the_diff_of_the_explorations_own_repository(paths, tmp_path):
    paths.out.mkdir()
    (tmp_path / "source" / "trainers").mkdir(parents=True)
    (tmp_path / "source" / "models").mkdir()
    (tmp_path / "source" / "models" / "mlp.py").write_text("x = 1\n")
    (tmp_path / "source" / "trainers" / "signal.py").write_text("a < b\n")
    _, old = git.commit_code(paths.out, tmp_path / "source", "exploration/toy", "start")
    new = code.tree_with(paths.out, old, {"trainers/signal.py": "a < c\n"})
    made = Driver(contract(n_iter_block=40))
    made.put(0.5, code=old)
    made.end(propose(made, change(), tree=new), 0.9)
    journalled(made, paths)
    page = report.write(paths).read_text()
    self_contained(page)
    assert "\n-a &lt; b\n+a &lt; c\n" in page


def test_what_others_wrote_is_escaped(driver, paths):
    number = propose(driver, change(text=NASTY, patch=NASTY), hypothesis=NASTY)
    driver.end(number, outcome="crashed", sentence=NASTY)
    found = self_contained(report.render(paths, driver.state, lambda a, b: NASTY))
    assert found.text.count(NASTY) >= 5


def test_the_best_says_which_edits_it_has(driver):
    told = report_tables.best_against_start(driver.state)
    assert "cosine schedule, with a warm-up (iteration 2)" in told and "(iteration 3)" not in told
