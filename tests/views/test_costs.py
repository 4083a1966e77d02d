"""What people see of the language model's costs: at the terminal, in `make status`, in the report."""

import io
import re
import signal

import pytest
from rich.console import Console

from orchestrator.core import ledger
from orchestrator.core.dialogue import Usage
from orchestrator.core.events import Refused, RunEnded, RunReserved, Session
from orchestrator.engine.context import Live
from orchestrator.engine.opening import paths_of
from orchestrator.engine.sealing import state_of
from orchestrator.llm.answers import Calls, Fails
from orchestrator.views import console, costs, lines, report, report_costs, status
from tests import claude, toy
from tests.core.test_ledger import RESERVED, Asked
from tests.views.test_report import NASTY, Page, self_contained

WARM = Usage(input_tokens=90, cache_read_tokens=910, output_tokens=40)
GAVE_UP = "Claude gave no usable turn (8 parts of its replies were refused)"


@pytest.fixture
def made():
    """Turn 1 by Claude, turn 2 after two refusals, turn 3 by the offline scientist, turn 4 in conversation."""
    found = Asked()
    found.add(Session(session=2, version="0", scientist="claude", launcher="l", slots=2, sandbox="none", iterations=9))
    found.ask(40_001, usage=Usage(cache_write_1h_tokens=3200, cache_write_tokens=400, output_tokens=60), seconds=8.0)
    found.ask(11_300, usage=WARM, seconds=4.0)
    found.take(n=2)
    found.wait(60.0, "Overloaded; trying again in 60 s")
    found.ask(5_000, usage=WARM, seconds=2.0)
    found.add(Refused(turn=2, attempt=1, scientist="claude", reason="batch_size = 7 refused: values 8, 16, 32"))
    found.add(Refused(turn=2, attempt=2, scientist="claude", reason="an empty reply"))
    found.take()
    found.ask(RESERVED, outcome="lost", sentence="request 5 was sent: it may be on the bill", seconds=0.0)
    found.add(Refused(turn=3, attempt=1, scientist="claude", reason=GAVE_UP))
    found.take(scientist="offline", instead=GAVE_UP)
    found.reserve(micro_usd=300_000)
    return found


def told(made):
    """Return the lines of all events, in order."""
    return [text for event in made.events if (text := lines.event_line(event, made.state))]


def shown(renderable):
    text = Console(file=io.StringIO(), width=150, force_terminal=False)
    text.print(renderable)
    return text.file.getvalue()


# --- the terminal -----------------------------------------------------------------------------------------------------


def test_a_turn_says_who_took_it_and_what_it_cost(made):
    heads = [text.splitlines()[0] for text in told(made) if text.startswith("turn ")]
    assert heads == [
        "turn 1: claude, 2 replies, 12 s, $0.0513 (cache 20 %); $0.0513 spent",
        "turn 2: claude, 1 reply, 3.5 s, $0.0050 (cache 91 %); $0.0563 spent",
        "turn 3: offline in place of claude, 0 replies, 0 s, $0.4000; $0.4563 spent",
    ]
    (first,) = [text for text in told(made) if text.startswith("turn 1:")]
    assert [line.split(" [")[0].split(":")[0] for line in first.splitlines()] == ["turn 1", "iter 1", "iter 2"]


def test_a_turn_that_nobody_could_be_asked_about_is_told_and_costs_nothing():
    made = Asked()
    made.add(Session(session=2, version="0", scientist="claude", launcher="l", slots=1, sandbox="none", iterations=9))
    made.ask(50_000)
    made.take()
    made.take(scientist="offline", instead="no budget")
    assert told(made)[-2].startswith("turn 2: offline in place of claude, 0 replies, 0 s, $0.0000; $0.0500 spent\n")
    assert "  cost $0.0500, $0.0500 a turn (mean of 1)" in costs.section(made.state)


def test_requests_pauses_and_losses_have_no_line_of_their_own(made):
    """The scientist says the last two aloud (`Office.pause`, `Office.say`), so that they are not said twice."""
    quiet = [e for e in made.events if e.body.type in ("llm_reserved", "llm_settled", "waiting")]
    assert len(quiet) == 12
    assert [lines.event_line(event, made.state) for event in quiet] == [None] * 12


def test_without_a_model_nothing_is_said_of_costs():
    made = Asked()
    made.take(scientist="offline")
    assert not any("turn 1" in text for text in told(made))
    assert costs.foot(made.state) is None
    assert costs.section(made.state) == []
    assert report_costs.section(made.state) == "<p class=dim>no language model was asked</p>"
    assert "language model" not in shown(console.panel(made.state, [], 9))


def test_the_foot_says_what_is_spent_and_that_the_model_is_asked(made):
    foot = "language model: $0.7563 spent; asking claude-opus-5-5 (turn 4)"
    assert costs.foot(made.state) == foot
    assert foot in shown(console.panel(made.state, [], 9))
    made.settle(6, 1_000)
    assert costs.foot(made.state) == "language model: $0.4573 spent"


def test_an_open_request_of_an_earlier_session_is_not_being_asked(made):
    made.add(Session(session=3, version="0", scientist="offline", launcher="l", slots=1, sandbox="none", iterations=9))
    assert costs.foot(made.state) == "language model: $0.7563 spent"


def test_runs_in_flight_stay_in_the_panel_while_the_model_is_asked():
    made = Asked()
    made.add(Session(session=2, version="0", scientist="claude", launcher="l", slots=2, sandbox="none", iterations=9))
    turn = made.turn(2)
    for proposal in turn.proposals:
        made.add(RunReserved(iteration=proposal.iteration, attempt=1, session=2, slot=proposal.slot))
    view = console.RichObserver()
    runs = [Live(made.state.iterations[i], 1, "training", 20, 80, 0.5, 30.0) for i in (1, 2)]
    view.tick(made.state, runs, 9)
    made.add(RunEnded(iteration=1, attempt=1, session=2, outcome="crashed", sentence="boom"))
    made.reserve()
    view.event(made.events[-1], made.state)
    panel = shown(view._live.renderable)
    assert "asking claude-opus-5-5 (turn 2)" in panel
    assert re.findall(r"iter (\d+) .*training step 20/80", panel) == ["2"]


# --- make status ------------------------------------------------------------------------------------------------------


def test_the_section_of_status(made):
    assert costs.section(made.state) == [
        "Language model: claude-opus-5-5",
        "  cost $0.7563, $0.1891 a turn (mean of 4)",
        "  3 replies to 6 requests in 16 s, 3 refusals",
        "  tokens: 5600 in, 140 out; cache hit rate 32 %",
        "  stable prefix of the prompts: 3200 tokens (measured)",
        "  waited 1 time for the service, 1 min 00 s together",
        "  1 request lost with the engine: counted with all that was reserved, $0.4000 (may be on the bill)",
        "  1 request not settled yet: counted with the most that it can cost, $0.3000",
        "  1 turn taken by another scientist in its place",
        "  turn  taken by                proposes  replies  refusals  tokens in  out  cost     cache",
        "  1     claude                  1, 2      2        0         4600       100  $0.0513  20 %",
        "  2     claude                  3         1        2         1000       40   $0.0050  91 %",
        "  3     offline (in its place)  4         0        1         0          0    $0.4000  -",
        "  4     -                       not over  0        0         0          0    $0.3000  -",
    ]


def test_the_table_of_status_has_the_last_turns_only():
    made = Asked()
    for _ in range(costs.LAST + 5):
        made.ask(10)
        made.take()
    turns = [line.split()[0] for line in costs.section(made.state) if re.match(r"  \d+ +claude", line)]
    assert turns == [str(n) for n in range(6, costs.LAST + 6)]


def test_a_blocks_end_is_named():
    made = Asked()
    for _ in range(7):
        made.ask(10)
        made.take()
    (end,) = [t for t in ledger.turns(made.state) if t.taken.boundary]
    assert costs.proposed(end) == "block 1 ends"


# --- make report ------------------------------------------------------------------------------------------------------


def cells(page, head):
    """Return the rows of the table after a heading, as lists of texts."""
    part = page[page.index(f"<h3>{head}</h3>") :]
    rows = re.findall(r"<tr>(.*?)</tr>", part[: part.index("</table>")])
    return [[Page(cell).text for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in rows]


def test_the_columns_add_up_to_the_total(made):
    page = report_costs.section(made.state)
    total = ledger.spent(made.state).micro_usd
    for head in ("Cost per turn", "Cost per iteration"):
        *rows, last = [row[-1] for row in cells(page, head)[1:]]
        assert sum(round(float(cell[1:]) * 1e6) for cell in rows) == total
        assert last == ledger.usd_exact(total) == "$0.756301"
    shares = [row[:2] + row[-1:] for row in cells(page, "Cost per iteration")[1:]]
    assert shares[:2] == [["1", "1", "$0.025651"], ["2", "1", "$0.025650"]]
    assert shares[-2:] == [["none", "4", "$0.300000"], ["all", "", "$0.756301"]]


def test_the_curve_climbs_to_the_total(made):
    drawn = report_costs.curve(ledger.turns(made.state))
    heights = [float(v) for v in re.search(r' d="([^"]+)"', drawn)[1].replace("H", "V").split("V")[2::2]]
    assert heights == sorted(heights, reverse=True)
    assert len(heights) == 4
    assert drawn.count('class="good"') == 2
    assert drawn.count(">×<") == drawn.count('class="open hollow"') == 1
    assert "<title>turn 2 (3): $0.0050, so far $0.0563</title>" in drawn
    free = Asked()
    free.ask(0)
    assert "nan" not in report_costs.curve(ledger.turns(free.state))


def test_a_long_exploration_is_folded_and_its_axis_has_room():
    made = Asked()
    for _ in range(60):
        made.ask(10)
        made.take()
    page = report_costs.section(made.state)
    assert "<summary>60 turns</summary>" in page
    assert re.search(r"<summary>\d+ iterations, \$0.0006</summary>", page)
    assert len(re.findall(r'y="322" text-anchor="middle">\d+<', page)) == report_costs.NUMBERS


def test_refusals_waits_and_other_takers_have_their_reasons(made):
    page = report_costs.section(made.state)
    folded = re.search(r"<details><summary>3 refusals, with reasons</summary>(.*?)</details>", page)[1]
    assert "batch_size = 7 refused: values 8, 16, 32" in folded
    assert "an empty reply" in folded
    assert cells(page, "Turns that another scientist took")[1:] == [["3", "offline", "4", GAVE_UP]]
    assert cells(page, "Waits and lost requests")[1:] == [
        ["3", "2", "1 min 00 s", "Overloaded; trying again in 60 s"],
        ["5", "3", "", "request 5 was sent: it may be on the bill"],
    ]


def test_what_the_model_or_the_service_wrote_is_escaped():
    made = Asked()
    made.wait(1.0, NASTY)
    call = made.reserve()
    made.state.calls[call].reserved = made.state.calls[call].reserved.model_copy(update={"model": NASTY})
    made.settle(call, 5, outcome="lost", sentence=NASTY)
    made.add(Refused(turn=1, attempt=1, scientist=NASTY, reason=NASTY))
    made.take(scientist=NASTY, instead=NASTY)
    found = self_contained(report_costs.section(made.state))
    assert found.text.count(NASTY) == 7


# --- a real exploration -----------------------------------------------------------------------------------------------


def test_a_pause_and_a_loss_are_said_once_and_every_view_has_the_same_sum(tmp_path):
    """Over real HTTP: the service is overloaded once, and the engine is killed while a reply is due."""
    home, engine = claude.home(tmp_path, "--epochs", "2", "--epoch-s", "0.02"), []

    def script(body, number):
        answer = claude.SCRIPT(body, number)
        if 2 <= number <= 4:  # the client itself tries three times
            return Fails(status=529, error_type="overloaded_error", message="Overloaded")
        return Calls(function=lambda: engine[0].send_signal(signal.SIGKILL), then=answer) if number == 8 else answer

    with claude.server(script) as server:
        engine.append(toy.start(home, "explore", "toy", "--iterations", "2", **claude.environment(server)))
        first = engine[0].communicate(timeout=40)[0].decode()
        second = toy.run(home, "resume", "toy", **claude.environment(server))
    assert second.returncode == 0, second.stdout + second.stderr
    paths = paths_of(home, "toy", None)
    state = state_of(paths)
    (wait,) = [c.wait for c in state.calls.values() if c.wait]
    (lost,) = [c.settled for c in state.calls.values() if c.settled.outcome == "lost"]
    both = first + second.stdout
    assert both.count(wait.sentence) == both.count(lost.sentence) == 1
    spent = ledger.spent(state)
    heads = re.findall(r"^turn (\d+): claude, \d+ repl.*; (\$[\d.]+) spent$", both, re.M)
    assert heads == [(str(t.turn), ledger.spent_until(state, t.turn).usd) for t in state.turns]
    assert heads[-1][1] == spent.usd
    told = status.show(paths)
    assert f"  cost {spent.usd}, " in told
    assert "  waited 1 time for the service, " in told
    page = report.write(paths).read_text()
    self_contained(page)
    assert cells(page, "Cost per turn")[-1][-1] == ledger.usd_exact(spent.micro_usd)
