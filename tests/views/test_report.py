"""report.html: whole, self-contained, everything escaped, and what it shows is what the records say."""

import base64
import re
from html.parser import HTMLParser

import pytest

from orchestrator.core.events import Alarm, Refused, RegimeReady, Turned
from orchestrator.core.records import Boundary, Metric, Turn
from orchestrator.engine.sealing import state_of
from orchestrator.paths import Paths, RunPaths
from orchestrator.views import report, report_svg, report_tables
from orchestrator.views.report_html import IMAGE_LIMIT, PNG, Images, table
from tests import toy
from tests.factory import Driver, contract

VOID = {"meta", "br", "img"}
NASTY = """<script>alert("x")</script> & 'q' <img src=http://x.example/a.png onerror=alert(1)>"""


class Page(HTMLParser):
    """Checks that every element is closed in its order; collects text, elements and what they point at."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.targets, self.text, self.handlers = [], [], [], "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.targets += [v for k, v in attrs if k in ("src", "href", "xlink:href", "data", "action")]
        self.handlers += [k for k, _ in attrs if k.startswith("on")]
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def self_contained(page):
    found = Page(page)
    assert not {"script", "link", "iframe", "object", "base"} & set(found.elements) and found.handlers == []
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in found.targets)
    assert "url(" not in page and "@import" not in page
    return found


@pytest.fixture
def paths(tmp_path):
    return Paths(source=tmp_path / "toy", out=tmp_path / "out")


@pytest.fixture
def driver():
    """Eleven iterations in two blocks: better with lr_W, replicates with a spread."""
    made = Driver(contract())
    noise = iter([0.0, 0.01, -0.01, 0.02, 0.0, 0.01, -0.02, 0.0, 0.01, 0.0, 0.0])
    made.explore(11, lambda config: 0.5 + 40 * config["training"]["learning_rate_W_start"] + next(noise))
    return made


def test_a_real_exploration_with_regimes_failures_and_a_snapshot(tmp_path):
    from tests.e2e.test_blocks import CONFIG, REGIMES

    home = toy.make_home(tmp_path, "--faults", "3=nan 2-1=oom", config=CONFIG, exploration=toy.EXPLORATION + REGIMES)
    assert toy.run(home, "explore", "toy", "--iterations", "6").returncode == 0
    done = toy.run(home, "report", "toy")
    assert done.returncode == 0, done.stderr
    page = (toy.out(home) / "report.html").read_text()
    found = self_contained(page)
    state = state_of(Paths(source=home / "explorations" / "toy", out=toy.out(home)))
    for words in ("Block 1: small", "Block 2: large", "Memory at the end of block 1", "the loss became NaN at step 15",
                  "CUDA out of memory", "run again", "the toy data are what they are", "Working memory",
                  state.boundaries[1].summary[0], state.boundaries[1].focus, "(carried over)"):  # fmt: skip
        assert words in found.text, words
    for i, it in state.iterations.items():
        assert f"<td class=n>{i}</td><td class=n>{it.node} ← " in page
        assert it.proposal.hypothesis in found.text and it.reflection.observation in found.text
    (toy.out(home) / "blocks" / "001" / "memory.md").unlink()
    assert "Memory at the end of block 1" not in report.render(
        Paths(source=home / "explorations" / "toy", out=toy.out(home)), state
    )


def test_everything_that_others_wrote_is_escaped(paths, tmp_path):
    made = Driver(contract(title=NASTY, goal=NASTY, n_iter_block=2))
    turn = made.turn()
    number = turn.proposals[0].iteration
    it = made.state.iterations[number]
    words = {"strategy": NASTY, "evidence": NASTY, "hypothesis": NASTY, "parent_rule": NASTY}
    it.proposal = it.proposal.model_copy(update=words)
    made.end(number, Metric(value=None, reason=NASTY), marks=(NASTY,))
    made.explore(2, lambda config: 0.5)
    made.add(RegimeReady(regime="r", name=NASTY, unfit=NASTY, preflight={
        "oracle": {"connectivity_R2": 1.0}, "guard": {"sentence": NASTY}, "warnings": [NASTY]}))  # fmt: skip
    made.add(Refused(turn=9, attempt=1, scientist=NASTY, reason=NASTY))
    made.add(Alarm(session=1, kind=NASTY, iteration=1, sentence=NASTY))
    said = Boundary(block=1, summary=(NASTY,), regime="", focus=NASTY, hypothesis=NASTY)
    made.add(Turned(turn=Turn(turn=99, based_on=1, scientist="x", boundary=said)))
    made.turn()
    made.end(3, outcome="crashed", sentence=NASTY, cause=NASTY)
    (tmp_path / "out" / "blocks" / "001").mkdir(parents=True)
    (tmp_path / "out" / "blocks" / "001" / "memory.md").write_text(NASTY)
    (tmp_path / "out" / "confirm" / "20260101").mkdir(parents=True)
    (tmp_path / "out" / "confirm" / "20260101" / "confirm.md").write_text(NASTY)
    found = self_contained(report.render(paths, made.state))
    assert found.text.count(NASTY) >= 14


def test_the_chart_shows_runs_replicates_means_and_blocks(driver):
    state = driver.state
    drawn = report_svg.chart(state)
    replicates = [it for it in state.iterations.values() if it.proposal.mutation.kind == "replicate"]
    several = [n for n in state.nodes.values() if len(state.ideas[n.idea]) > 1]
    assert replicates and several
    assert drawn.count("<circle") == len(state.iterations)
    assert len(re.findall(r'<circle class="\w+ hollow"', drawn)) == len(replicates)
    assert len(re.findall(r"mean \d\.\d{4} ± \d\.\d{4}, n=", drawn)) == len(several)
    assert ">block 1<" in drawn and ">block 2<" in drawn and drawn.count('class="band"') == 1
    assert drawn.count("stroke-dasharray") == 2


def test_a_run_on_another_draw_is_a_square_and_outside_the_mean(driver):
    state = driver.state
    it = next(it for it in state.iterations.values() if it.proposal.mutation.kind == "replicate")
    it.proposal = it.proposal.model_copy(update={"simulation_seed": 4711})
    assert len(re.findall(r'<rect class="\w+ hollow"', report_svg.chart(state))) == 1


def test_a_value_far_below_stands_at_the_edge_and_a_failure_is_a_cross():
    made = Driver(contract())
    values = iter([-50.0, 0.6, 0.7, 0.8, 0.9])
    made.explore(5, lambda config: next(values))
    made.turn()
    made.end(6, outcome="crashed", sentence="x")
    drawn = report_svg.chart(made.state)
    assert drawn.count("<circle") == 4 and drawn.count("▽<title>") == 1 and drawn.count("×<title>") == 1
    ticks = [float(tick) for tick in re.findall(r'text-anchor="end">(-?[\d.]+)<', drawn)]
    assert min(ticks) > 0.4 and max(ticks) <= 1.0


def test_a_chart_of_equal_or_no_values_is_drawn():
    made = Driver(contract())
    assert "no values yet" in report_svg.chart(made.state)
    made.explore(2, lambda config: 0.5)
    assert report_svg.chart(made.state).count("<circle") == 2


def test_changes_are_those_of_the_configs(driver):
    state = driver.state
    old, new = {"training": {"a": 1, "seed": 1}, "claude": {"x": 1}}, {"training": {"a": 2, "seed": 2, "b": 3}}
    assert report_tables.differences(old, new) == [("training.a", 1, 2), ("training.b", None, 3)]
    page = report_tables.changes(state)
    for node in state.nodes.values():
        proposal = state.iterations[node.id].proposal
        for change in proposal.mutation.changes:
            assert f"{change.key}: " in page.split(f"<td class=n>{node.id}</td>")[1].split("</tr>")[0]
    best = report_tables.best_against_start(state)
    assert "training.learning_rate_W_start" in best and "noise standard deviations" in best


def test_a_table_says_when_it_is_empty():
    assert "<table" not in table(("a", "b"), [], "nothing here") and "nothing here" in table(
        ("a", "b"), [], "nothing here"
    )


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    made = RunPaths(tmp_path / "0001-1")
    (made.plots / "matrix").mkdir(parents=True)
    return made


def test_of_each_kind_the_last_plot_is_embedded(run):
    for number, name in enumerate(("matrix/comparison_0_5.png", "matrix/comparison_1_9.png", "loss.png")):
        (run.plots / name).write_bytes(PNG + bytes([number]))
    shown = Images().of(run)
    assert Page(shown).targets == [
        "data:image/png;base64," + base64.b64encode(PNG + bytes([n])).decode() for n in (1, 2)
    ]


def test_links_other_files_and_large_ones_are_not_embedded(run, tmp_path):
    (tmp_path / "secret.png").write_bytes(PNG)
    (run.plots / "link.png").symlink_to(tmp_path / "secret.png")
    (run.plots / "text.png").write_text("the key")
    (run.plots / "large.png").write_bytes(PNG + bytes(IMAGE_LIMIT))
    (run.plots / "dir.png").mkdir()
    assert Images().of(run) == ""


def test_past_the_budget_a_plot_is_named_only(run):
    for name in ("a.png", "b.png"):
        (run.plots / name).write_bytes(PNG + bytes(100))
    shown = Images(budget=150).of(run)
    assert shown.count("<img") == 1 and "not embedded" in shown and "b.png" in shown
