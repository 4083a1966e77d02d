"""Explorations that Claude drives, end to end: real engine, real children, real SDK, real HTTP on loopback."""

import os
import re
import signal
import subprocess
import sys

import pytest

from orchestrator.core import ledger
from orchestrator.core.dialogue import PRICES, cost
from orchestrator.core.state import fold
from orchestrator.engine.opening import paths_of
from orchestrator.engine.sealing import sealed_contract, state_of
from orchestrator.engine.transcripts import Transcripts
from orchestrator.llm.answers import Cuts, Fails, Says, Stalls
from orchestrator.scientist.claude.tools import TOOLS
from orchestrator.store import journal
from tests import claude, toy

OPTIONS = ("--epochs", "2", "--epoch-s", "0.02")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """`make demo`: two blocks of ridge_numpy in two slots."""
    root = tmp_path_factory.mktemp("demo")
    words = [sys.executable, "-m", "orchestrator", "demo", "--root", str(root)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=50, env=toy.environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return paths_of(toy.REPOSITORY, "ridge_numpy", root), done.stdout


def requests(paths):
    """Every request that was answered, in order."""
    kept = Transcripts(paths)
    return [kept.request(number) for number in kept.calls()]


def blocks(request, kind):
    return [b for m in request.messages for b in m["content"] if b["type"] == kind]


def test_two_blocks_use_every_tool(demo):
    paths, told = demo
    assert "the replies are scripted" in told
    state = state_of(paths)
    assert sum(not it.proposal.filler for it in state.done) == 12
    assert set(state.boundaries) == {1, 2}
    assert {t.scientist for t in state.turns} == {"claude"}
    assert not any(t.instead for t in state.turns)
    used = {b["name"] for r in requests(paths) for b in blocks(r, "tool_use")}
    used |= {
        b["name"] for n in Transcripts(paths).calls() for b in Transcripts(paths).kept(n).reply.content if "name" in b
    }
    assert used == set(TOOLS)


def test_one_turn_proposes_for_several_slots(demo):
    state = state_of(demo[0])
    assert max(len([p for p in t.proposals if not p.filler]) for t in state.turns) == 2
    assert {p.role for p in state.turns[0].proposals} == {"exploit-best", "exploit-second"}


def test_a_plot_was_seen_and_stands_in_the_entry(demo):
    paths, _ = demo
    shown = [
        b for r in requests(paths) for res in blocks(r, "tool_result") for b in res["content"] if isinstance(b, dict)
    ]
    images = [b["source"]["sha256"] for b in shown if b["type"] == "image"]
    assert images
    assert (paths.blobs / images[0]).read_bytes().startswith(b"\x89PNG")
    assert "Visual: fit=[learned against true weights] (plots/weights.png)" in paths.analysis.read_text()


def test_entries_have_the_log_form_of_the_instruction(demo):
    text = demo[0].analysis.read_text()
    entry = re.search(r"^## Iter 5: .*?(?=^## )", text, re.M | re.S)[0]
    labels = re.findall(r"^([A-Z][\w/ ]*):", entry, re.M)
    kept = [label for label in labels if label not in ("Slot", "Visual", "Evidence")]
    assert kept == [
        "Node",
        "Mode/Strategy",
        "Config",
        "Metrics",
        "Mutation",
        "Parent rule",
        "Hypothesis",
        "Observation",
        "Next",
    ]
    assert re.search(r"^Metrics: weights_R2=\S+, heldout_R2=\S+$", entry, re.M)


def test_principles_cite_iterations_and_the_instruction_is_edited(demo):
    paths, _ = demo
    assert re.search(r"^- The step size decides .* \(iter \d+, \d+, \d+\)$", paths.memory.read_text(), re.M)
    assert "the step size first (block 2)" in paths.instruction.read_text()
    log = paths.analysis.read_text()
    assert log.count("INSTRUCTIONS EDITED:\n- change exploit: the step size moved the primary metric most") == 2


def test_the_costs_add_up(demo):
    """To the micro-dollar: events, tokens times prices, turns, total."""
    state = state_of(demo[0])
    settled = [c.settled for c in state.calls.values()]
    prices = PRICES["claude-opus-5-5"]
    assert all(s.micro_usd == cost(s.usage, prices) for s in settled)
    whole = ledger.spent(state)
    assert whole.micro_usd == sum(s.micro_usd for s in settled) > 0
    assert whole.micro_usd == sum(ledger.spent(state, t.turn).micro_usd for t in state.turns)
    assert all(c.settled.micro_usd <= c.reserved.micro_usd for c in state.calls.values())
    assert whole.cache_rate > 0.5


def test_the_prefix_is_the_same_bytes_through_a_block(demo):
    state = state_of(demo[0])
    prefixes = {}
    for number, request in zip(Transcripts(demo[0]).calls(), requests(demo[0]), strict=True):
        turn = state.turns[state.calls[number].reserved.turn - 1]
        block = (
            turn.boundary.block
            if turn.boundary
            else max(state.iterations[p.iteration].block for p in turn.proposals)
            if turn.proposals
            else None
        )
        if block is not None:
            prefixes.setdefault(block, set()).add(repr((request.tools, request.system)))
    assert {block: len(found) for block, found in prefixes.items()} == {1: 1, 2: 1}
    assert prefixes[1] != prefixes[2]  # the edit of the strategy table is in it
    measured = [c.settled.usage for c in state.calls.values()]
    assert measured[0].cache_write_1h_tokens > 1000
    assert "the prefix of every prompt has" in demo[1]


def test_replay_needs_no_key_and_shows_a_changed_prompt(demo, tmp_path):
    paths, _ = demo
    words = [sys.executable, "-m", "orchestrator", "replay", "ridge_numpy", "--root", str(paths.out.parent)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=50, env=toy.environment(), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    state = state_of(paths)
    asked = len({c.reserved.turn for c in state.calls.values()})
    assert f"{len(state.turns)} turns are the same, {asked} of them of the model" in done.stdout
    changed = tmp_path / "driver.py"
    changed.write_text(
        "import sys\nfrom orchestrator import cli\nfrom orchestrator.scientist.claude import prompt\n"
        "prompt.PROTOCOL = prompt.PROTOCOL.replace('You are the scientist', 'You are a scientist')\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    words = [sys.executable, str(changed), *words[3:]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=50, env=toy.environment(), check=False)
    assert done.returncode == 2
    assert "-    You are the scientist of an exploration" in done.stderr
    assert "+    You are a scientist of an exploration" in done.stderr


# What can go wrong


def explore(home, server, *words, iterations=3, **env):
    return toy.run(home, "explore", "toy", "--iterations", str(iterations), *words, **claude.environment(server), **env)


def fold_of(home):
    paths = paths_of(home, "toy", None)
    return fold(sealed_contract(paths), journal.read(paths.journal))


def test_no_key_reaches_a_file_or_a_child(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)

    def script(body, number):
        if number == 4:
            return Fails(
                status=529, error_type="overloaded_error", message=f"Overloaded, {claude.KEY}", retry_after=0.01
            )
        return claude.SCRIPT(body, number)

    with claude.server(script) as server:
        done = explore(home, server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert claude.KEY not in done.stdout + done.stderr
    for path in toy.out(home).rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            assert claude.KEY.encode() not in data, path
            if path.name == "launch.json":
                assert b"ANTHROPIC" not in data


def test_without_a_key_the_offline_scientist_decides_and_claude_is_refused(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)
    refused = toy.run(home, "explore", "toy", "--scientist", "claude")
    assert refused.returncode == 2
    assert "needs a key: set ANTHROPIC_API_KEY" in refused.stderr
    done = toy.run(home, "explore", "toy", "--iterations", "1")
    assert "scientist: offline (no ANTHROPIC_API_KEY is set)" in done.stdout
    assert not fold_of(home).calls


def test_a_model_without_a_price_is_never_asked(tmp_path):
    home = claude.home(tmp_path, *OPTIONS, exploration=claude.EXPLORATION + "model: {name: my-model}\n")
    with claude.server() as server:
        done = explore(home, server)
    assert done.returncode == 2
    assert "no price is known for the model 'my-model'" in done.stderr
    assert not server.requests


def test_the_total_budget_stops_before_the_request_that_would_cross_it(tmp_path):
    home = claude.home(tmp_path, *OPTIONS, exploration=claude.EXPLORATION.replace("{first", "{max_usd: 0.43, first"))
    with claude.server() as server:
        done = explore(home, server)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "max_usd 0.43: $0.0" in done.stdout
        assert "SCIENTIST=offline" in done.stdout
        state = fold_of(home)
        assert ledger.spent(state).micro_usd <= 430_000
        assert [a.kind for a in state.alarms] == ["scientist"]
        asked = len(server.requests)
        spec = home / "explorations" / "toy" / "exploration.yaml"
        spec.write_text(spec.read_text().replace("max_usd: 0.43", "max_usd: 5"))
        again = toy.run(home, "resume", "toy", **claude.environment(server))
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(server.requests) > asked
    assert len(fold_of(home).done) == 3


def test_a_turns_budget_leaves_the_turn_to_the_offline_scientist(tmp_path):
    exploration = claude.EXPLORATION.replace("{first", "{turn: {max_usd: 0.40}, first")
    home = claude.home(tmp_path, *OPTIONS, exploration=exploration)
    with claude.server() as server:
        done = explore(home, server, iterations=2)
    assert done.returncode == 0, done.stdout + done.stderr
    state = fold_of(home)
    assert any("the turn's budget is used up: max_usd 0.4" in t.instead for t in state.turns)
    assert (
        "Marked: proposed by the offline scientist: Claude was not asked further"
        in (toy.out(home) / "analysis.md").read_text()
    )


def test_a_model_that_says_nothing_usable_is_marked_and_the_night_goes_on(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)
    with claude.server(lambda body, number: Says(content="I have reached my usage limit.")) as server:
        done = explore(home, server, iterations=2)
    assert done.returncode == 0, done.stdout + done.stderr
    state = fold_of(home)
    assert all(t.scientist == "offline" and t.instead for t in state.turns)
    assert len(state.done) == 2
    for name in ("memory.md", "analysis.md"):
        assert "usage limit" not in (toy.out(home) / name).read_text()


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [
        (401, "authentication_error", "ANTHROPIC_API_KEY"),
        (404, "not_found_error", "model"),
        (413, "request_too_large", ""),
    ],
)
def test_what_a_person_must_mend_stops_with_what_to_do(tmp_path, status, kind, told):
    home = claude.home(tmp_path, *OPTIONS)
    with claude.server(lambda body, number: Fails(status=status, error_type=kind, message="no")) as server:
        done = explore(home, server)
    assert done.returncode == 3, done.stdout + done.stderr
    assert told in done.stdout
    assert len(server.requests) == 1
    assert fold_of(home).alarms


def test_a_night_waits_and_says_so(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)
    limited = Fails(status=529, error_type="overloaded_error", message="Overloaded")

    def script(body, number):
        return limited if 4 <= number <= 12 else claude.SCRIPT(body, number)

    with claude.server(script) as server:
        done = explore(home, server, iterations=2)
    assert done.returncode == 0, done.stdout + done.stderr
    state = fold_of(home)
    waits = [c.wait.seconds for c in state.calls.values() if c.wait is not None]
    assert waits[:2] == [0.05, 0.1]
    assert "trying again in" in done.stdout
    assert all(c.settled.micro_usd == 0 for c in state.calls.values() if c.wait is not None)


def test_waiting_ends_at_its_limit(tmp_path):
    exploration = claude.EXPLORATION.replace("{first", "{max_wait_h: 0.00005, first")
    home = claude.home(tmp_path, *OPTIONS, exploration=exploration)
    with claude.server(lambda body, number: Fails(status=503, message="gone")) as server:
        done = explore(home, server)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the language model could not be asked for" in done.stdout
    assert "make resume" in done.stdout


def test_replies_that_always_break_off_are_not_paid_for_ever(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)

    def script(body, number):
        return Cuts(reply=claude.SCRIPT(body, number), after_events=3)

    with claude.server(script) as server:
        done = explore(home, server, iterations=1)
    assert done.returncode == 0, done.stdout + done.stderr
    state = fold_of(home)
    assert [len([c for c in state.calls.values() if c.reserved.turn == t.turn]) for t in state.turns] == [3, 3]
    assert all("3 replies in a row broke off, each perhaps paid" in t.instead for t in state.turns)
    assert ledger.spent(state).micro_usd == sum(c.reserved.micro_usd for c in state.calls.values())


def test_ctrl_c_while_it_waits(tmp_path):
    exploration = claude.EXPLORATION.replace("first_wait_s: 0.05", "first_wait_s: 30").replace("0.1}", "30}")
    home = claude.home(tmp_path, *OPTIONS, exploration=exploration)
    with claude.server(lambda body, number: Fails(status=503, message="gone")) as server:
        engine = toy.start(home, "explore", "toy", **claude.environment(server))
        log = toy.out(home) / "journal.jsonl"
        toy.wait_for(lambda: log.exists() and '"type":"waiting"' in log.read_text())
        os.kill(engine.pid, signal.SIGINT)
        output = engine.communicate(timeout=20)[0].decode()
    assert engine.returncode == 130, output


def test_a_persons_note_is_told_in_the_next_turn(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)
    with claude.server() as server:
        assert explore(home, server, iterations=1).returncode == 0
        (toy.out(home) / "notes.md").write_text("# Notes from people\n\nThe batch size is not worth a run.\n")
        assert explore(home, server, iterations=2).returncode == 0
    asked = [b["messages"][0]["content"][0]["text"] for b in server.bodies]
    assert "## Notes from people (notes.md)" not in asked[0]
    assert "The batch size is not worth a run." in asked[-1]


def test_without_the_key_a_claude_exploration_does_not_go_on_in_silence(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)
    with claude.server() as server:
        assert explore(home, server, iterations=1).returncode == 0
    refused = toy.run(home, "explore", "toy", "--iterations", "2")
    assert refused.returncode == 2
    assert "driven by claude, and no key is set: set ANTHROPIC_API_KEY, or go on without it" in refused.stderr
    done = toy.run(home, "explore", "toy", "--iterations", "2", "--scientist", "offline")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_budget_that_lets_no_request_through_stops_with_that(tmp_path):
    exploration = claude.EXPLORATION.replace("{first", "{turn: {max_usd: 0.01}, first")
    home = claude.home(tmp_path, *OPTIONS, exploration=exploration)
    with claude.server() as server:
        done = explore(home, server, iterations=2)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "budget.turn.max_usd 0.01 lets no request through: one reserves at least $0.3" in done.stdout
    assert "when that is mended: make resume EXP=toy" in done.stdout
    assert not server.requests


def test_what_was_spent_stays_spent_when_a_part_is_cut_off(tmp_path):
    home = claude.home(tmp_path, *OPTIONS, block=2)
    with claude.server() as server:
        assert explore(home, server, iterations=4).returncode == 0
        before = ledger.whole(fold_of(home))
        again = toy.run(home, "resume", "toy", "--block", "1", **claude.environment(server))
        assert again.returncode == 0, again.stdout + again.stderr
    state = fold_of(home)
    assert len(state.done) == 4
    cut = state.before[0].micro_usd
    assert 0 < cut < before.micro_usd
    assert ledger.whole(state).micro_usd == ledger.spent(state).micro_usd + cut > before.micro_usd
    assert "before a part was cut off: $" in toy.run(home, "status", "toy").stdout


def test_output_that_nobody_reads_does_not_end_the_night(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)
    with claude.server() as server:
        engine = toy.start(home, "explore", "toy", "--iterations", "2", **claude.environment(server))
        engine.stdout.readline()
        engine.stdout.close()
        assert engine.wait(timeout=40) == 0
    assert len(fold_of(home).done) == 2


def test_a_reply_may_not_take_longer_than_the_budget_has_left(tmp_path):
    """Wall time is kept within the reply: it is given up, counts with all that was reserved, and the turn ends."""
    exploration = claude.EXPLORATION.replace("{first", "{turn: {max_min: 0.01}, first")
    home = claude.home(tmp_path, *OPTIONS, exploration=exploration)

    def script(body, number):
        return Stalls(reply=claude.SCRIPT(body, number), seconds=20, after_events=2, pings=True)

    with claude.server(script) as server:
        done = explore(home, server, iterations=1)
    assert done.returncode == 0, done.stdout + done.stderr
    state = fold_of(home)
    assert all("max_min 0.01: replies took 0.01" in t.instead for t in state.turns)
    assert all(c.settled.micro_usd == c.reserved.micro_usd and c.settled.seconds < 5 for c in state.calls.values())
    assert "was not complete after 0.6 s" in state.calls[1].settled.sentence
