"""What a person may change between two sessions of an exploration that Claude drives; and replay after it."""

import subprocess
import sys

from orchestrator.core.dialogue import PRICES, cost
from orchestrator.llm.answers import Cuts, Says
from tests import claude, toy
from tests.e2e.test_claude_kills import CALL, OPTIONS, state_of
from tests.e2e.test_kills import DRIVER

ANEW = ["a reply without a tool call", "an empty reply"]
SPEC = "explorations/toy/exploration.yaml"


def explore(home, server, *words, iterations=2):
    words = ("explore", "toy", "--iterations", str(iterations), *words)
    return toy.run(home, *words, **claude.environment(server))


def killed(home, server, point, call, *words, iterations=2):
    """Explore until a kill."""
    line = [sys.executable, str(DRIVER), point, "engine", str(call), "--home", str(home), "explore", "toy"]
    environment = toy.environment(**claude.environment(server))
    line += ["--iterations", str(iterations), *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=40, env=environment, check=False)
    assert done.returncode == -9, done.stdout + done.stderr


def resume(home, server, *words, **env):
    done = toy.run(home, "resume", "toy", *words, **claude.environment(server), **env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def replayed(home):
    done = toy.run(home, "replay", "toy")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def edit(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_raised_budget_goes_on_with_the_replies_that_were_paid(tmp_path):
    home = claude.home(tmp_path, *OPTIONS, exploration=claude.EXPLORATION.replace("{first", "{max_usd: 0.43, first"))
    with claude.server() as server:
        assert explore(home, server).returncode == 3
        state = state_of(home)
        assert any(c.reserved.turn > len(state.turns) for c in state.calls.values())  # a conversation had begun
        edit(home / SPEC, "max_usd: 0.43", "max_usd: 5")
        told = resume(home, server)
    assert "changed by a person and taken up: exploration.yaml" in told
    assert "asked anew" not in told
    calls = [c.reserved for c in state_of(home).calls.values()]
    assert len({(c.turn, c.step) for c in calls}) == len(calls)


def test_a_budget_that_is_lowered_while_the_engine_runs_holds_from_the_next_turn(tmp_path):
    home = claude.home(tmp_path, *OPTIONS, exploration=claude.EXPLORATION.replace("{first", "{max_usd: 4, first"))

    def script(body, number):
        if number == 2:
            edit(home / SPEC, "max_usd: 4", "max_usd: 0.1")
        return claude.SCRIPT(body, number)

    with claude.server(script) as server:
        done = explore(home, server)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "max_usd 0.1: $0.0" in done.stdout
    assert {c.reserved.turn for c in state_of(home).calls.values()} == {1}


def test_another_model_pays_its_own_price_and_the_earlier_one_its_own(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)
    with claude.server() as server:
        killed(home, server, "after_reply_kept", CALL)
        told = resume(home, server, ANTHROPIC_MODEL="claude-haiku-5-5")
    assert "turn 2 is asked, and paid, again, though request 4 had its reply: it was asked of claude-opus-5-5" in told
    for call in state_of(home).calls.values():
        assert call.settled.micro_usd == cost(call.settled.usage, PRICES[call.reserved.model])
    replayed(home)


def test_a_reply_whose_file_is_gone_is_paid_again_and_that_is_said(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)
    with claude.server() as server:
        killed(home, server, "after_llm_settled", CALL)
        (toy.out(home) / "prompts" / f"{CALL:04d}.json").unlink()
        told = resume(home, server)
    assert f"request {CALL} had its reply: prompts/{CALL:04d}.json is gone or damaged" in told
    replayed(home)


def test_the_offline_scientist_takes_over_within_a_conversation(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)
    with claude.server() as server:
        killed(home, server, "after_llm_settled", CALL)
        resume(home, server, "--scientist", "offline")
        assert explore(home, server, iterations=3).returncode == 0
    state = state_of(home)
    assert state.turns[1].scientist == "offline"
    assert any(c.reserved.turn == 2 for c in state.calls.values())
    assert f"{len(state.turns)} turns are the same, 3 of them of the model" in replayed(home)


def test_replay_of_turns_that_were_over_their_budget(tmp_path):
    for turns_usd, asked in ((0.36, False), (0.40, True)):
        exploration = claude.EXPLORATION.replace("{first", f"{{turn: {{max_usd: {turns_usd}}}, first")
        home = claude.home(tmp_path / str(turns_usd), *OPTIONS, exploration=exploration)
        with claude.server() as server:
            assert explore(home, server, iterations=1).returncode == 0
        state = state_of(home)
        assert any("budget" in t.instead for t in state.turns)
        assert bool(state.calls) == asked
        replayed(home)
    edit(toy.out(home) / "prompts" / "0001.json", "# Turn 1", "# Turn One")
    assert toy.run(home, "replay", "toy").returncode == 3


def test_starting_again_from_a_block_keeps_its_conversations(tmp_path):
    home = claude.home(tmp_path, *OPTIONS, block=2)
    with claude.server() as server:
        assert explore(home, server, iterations=3).returncode == 0
        kept = max(c.reserved.call for c in state_of(home).calls.values() if c.reserved.turn <= 3)
        told = resume(home, server, "--block", "1")
    assert "starting again from the end of block 1" in told
    assert "were spent on what came later: they still count in the budget" in told
    assert len(state_of(home).calls) > kept
    replayed(home)


def test_a_run_that_ends_while_the_engine_is_dead_does_not_cost_the_turn(tmp_path):
    """The conversation gave slot 1 an iteration, the only free one then; on resume slot 0 is free, too."""
    home = claude.home(tmp_path, "--epochs", "10", "--faults", "1=slow", block=6)
    with claude.server() as server:
        killed(home, server, "after_llm_settled", CALL, "--slots", "2", iterations=3)
        assert [it.proposal.slot for it in state_of(home).open_iterations] == [0]
        toy.wait_for((toy.out(home) / "runs" / "0001-1" / "exit.json").exists)
        resume(home, server)
    assert state_of(home).iterations[3].proposal.slot == 1
    assert not any(t.instead for t in state_of(home).turns)
    replayed(home)


def test_tokens_of_lost_requests_count(tmp_path):
    """A kill while a request is out does not make room in `max_tokens` for another one."""
    home = claude.home(
        tmp_path, *OPTIONS, exploration=claude.EXPLORATION.replace("{first", "{max_tokens: 60000, first")
    )
    with claude.server() as server:
        for call in (1, 2):
            killed(home, server, "before_reply_kept", call)
        done = explore(home, server)
    assert done.returncode == 3, done.stdout + done.stderr
    state = state_of(home)
    assert f"max_tokens 60000: {sum(c.reserved.tokens for c in state.calls.values())} are used" in done.stdout
    assert [c.settled.outcome for c in state.calls.values()] == ["lost", "lost"]


def test_a_reply_that_broke_off_is_said_to_count(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)

    def script(body, number):
        answer = claude.SCRIPT(body, number)
        return Cuts(reply=answer, after_events=3) if number == 2 else answer

    with claude.server(script) as server:
        done = explore(home, server, iterations=1)
    assert done.returncode == 0, done.stdout + done.stderr
    broken = state_of(home).calls[2].settled
    assert broken.micro_usd > 0
    assert "it may be on the bill, so it counts with all that was reserved for it" in done.stdout
    assert "may be on the bill" in broken.sentence


def test_refusals_of_an_abandoned_conversation_are_not_those_of_the_next(tmp_path):
    home = claude.home(tmp_path, *OPTIONS)
    silent, cut, empty = Says(content="well"), Says(content="well", stop_reason="max_tokens"), Says(content=())
    answers = {1: silent, 2: cut, 3: silent, 4: silent, 5: empty}  # the fourth begins anew

    def script(body, number):
        if number in answers:
            return answers[number]
        return claude.SCRIPT(body, number)

    with claude.server(script) as server:
        killed(home, server, "after_llm_settled", 3, iterations=1)
        edit(home / "instructions" / "toy.md", "range: 1E-4 to 1E-2", "range: 1E-4 to 2E-2")
        resume(home, server)
    reasons = [r.reason.split(":")[0].removesuffix(" refused") for r in state_of(home).refusals if r.turn == 1]
    assert reasons[:4] == ["a reply without a tool call", "the reply was cut at its longest length", *ANEW]
    replayed(home)
