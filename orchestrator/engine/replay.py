"""Replay: every turn of an exploration again, from recorded replies and recorded runs, without a key.

Each turn names the journal prefix that it saw. The prefix is folded (its runs are the recorded ones), the prompt is
built from it as it is built now, and the recorded reply is played when the request is the same to the letter. Whoever
changes what a model is told, or how a turn is made, sees the difference here. The offline scientist's turns are
recomputed in the same way. Nothing is written.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

import yaml

from orchestrator.core.contract import Contract
from orchestrator.core.dialogue import Prices, Reply, Request
from orchestrator.core.events import Body, Event, Opened, Refused, Turned
from orchestrator.core.exploration import Budget, ModelSettings
from orchestrator.core.records import Record, Turn
from orchestrator.core.state import State, fold
from orchestrator.engine.context import Setup
from orchestrator.engine.reading import Library
from orchestrator.engine.transcripts import Transcripts
from orchestrator.errors import NeedsPersonError
from orchestrator.llm.recorded import RecordedModel
from orchestrator.ports import Exchange, Picture, Scientist
from orchestrator.scientist.claude import NOT_ASKED, ClaudeScientist
from orchestrator.scientist.offline import OfflineScientist

NO_LIMIT = Budget(max_usd=1e9)
FREE = Prices(date="1970-01-01", input=0, output=0, cache_write=0, cache_write_1h=0, cache_read=0)
"""What was paid stands in the journal; a replay pays nothing."""


class Replayed(Record):
    """What was gone through again and found equal."""

    turns: int
    asked: int
    """Turns of the model."""
    replies: int


class _Office:
    """The office of one replayed turn: a journal in memory over the prefix, files and plots of the recorded runs."""

    def __init__(self, library: Library, state: State) -> None:
        self._library, self._state = library, state
        self.refusals: list[str] = []

    def record(self, body: Body) -> None:
        if isinstance(body, Refused):
            self.refusals.append(body.reason)
        if body.key not in self._state.seen:
            self._state.apply(Event(seq=self._state.seq + 1, at="", body=body))

    def ledger(self) -> State:
        return self._state

    def keep(self, exchange: Exchange, request: Request) -> None:
        """Keep nothing: it is kept."""

    def kept(self, call: int) -> Exchange | None:
        return None

    def view_file(self, state: State, name: str) -> str:
        return self._library.view_file(state, name)

    def view_plot(self, state: State, iteration: int, name: str) -> Picture:
        return self._library.view_plot(state, iteration, name)

    def plots(self, state: State, iteration: int) -> tuple[str, ...]:
        return self._library.plots(state, iteration)

    def image(self, sha256: str) -> bytes:
        return self._library.image(sha256)

    def pause(self, seconds: float, why: str) -> bool:
        return True

    def say(self, text: str) -> None:
        """Say nothing: it was said."""


def replay(setup: Setup, events: list[Event], say: Callable[[str], None]) -> Replayed:
    """Go through every turn again; return what was found equal.

    Raises:
        ReplayError: a prompt has changed; shows the difference.
        NeedsPersonError: the same replies lead to another turn, or to other refusals; shows the difference.
    """
    opened = next(e.body for e in events if isinstance(e.body, Opened))
    whole = fold(Contract.model_validate(opened.contract), events)
    turns = [e.body.turn for e in events if isinstance(e.body, Turned)]
    asked = replies = 0
    for turn in turns:
        calls = [c.reserved for c in whole.calls.values() if c.reserved.turn == turn.turn]
        if not calls:
            _same(
                turn, _unasked(setup, turn).propose(_prefix(events, turn.based_on), turn.asked or len(turn.proposals))
            )
            continue
        replies += _converse(setup, events, whole, turn)
        asked += 1
        say(f"turn {turn.turn}: the same prompts and the same turn")
    return Replayed(turns=len(turns), asked=asked, replies=replies)


def _unasked(setup: Setup, turn: Turn) -> Scientist:
    """Return the scientist of a turn for which no model was asked."""
    if turn.scientist == OfflineScientist.name:
        return OfflineScientist()
    found = ClaudeScientist(RecordedModel([]), ModelSettings(prices=FREE), NO_LIMIT)
    found.attach(_Office(Library(setup), State(setup.contract)))
    return found


def _prefix(events: list[Event], seq: int) -> State:
    opened = next(e.body for e in events if isinstance(e.body, Opened))
    return fold(Contract.model_validate(opened.contract), events[:seq])


def _converse(setup: Setup, events: list[Event], whole: State, turn: Turn) -> int:
    """Replay one conversation; return how many replies it had."""
    exchanges = _recorded(setup, whole, turn)
    based_on = max(c.reserved.based_on for c in whole.calls.values() if c.reserved.turn == turn.turn)
    state = _prefix(events, based_on)
    if not exchanges:
        return 0  # no reply came before the turn's budget was used up, or a person changed something
    office = _Office(Library(setup), state)
    scientist = ClaudeScientist(RecordedModel(exchanges), _settings(exchanges[0][0]), NO_LIMIT)
    scientist.attach(office)
    asked = next(c.reserved.asked for c in whole.calls.values() if c.reserved.based_on == based_on)
    if turn.instead.startswith(NOT_ASKED):
        return len(exchanges)  # the conversation was ended by its cost, not by its replies
    made = scientist.propose(state, asked)
    _same(turn, made)
    refused = [r.reason for r in whole.refusals if r.turn == turn.turn and r.scientist == scientist.name]
    if refused[-len(office.refusals) :] != office.refusals and office.refusals:
        raise _differs(f"turn {turn.turn}: other refusals than recorded", refused, office.refusals)
    return len(exchanges)


def _recorded(setup: Setup, whole: State, turn: Turn) -> list[tuple[Request, Reply]]:
    """Return the requests and replies of a turn's last conversation, in order."""
    transcripts = Transcripts(setup.paths)
    calls = [c for c in whole.calls.values() if c.reserved.turn == turn.turn]
    based_on = max(c.reserved.based_on for c in calls)
    found = []
    for call in calls:
        exchange = transcripts.kept(call.reserved.call)
        replied = call.settled is not None and call.settled.outcome == "replied"
        if call.reserved.based_on != based_on or not replied:
            continue
        request = transcripts.request(call.reserved.call)
        assert exchange is not None  # `request` raises when the file is not there
        found.append((request, exchange.reply))
    return found


def _settings(request: Request) -> ModelSettings:
    """Return the settings that a recorded request was made with."""
    marks = [b["cache_control"].get("ttl", "5m") for b in request.system if "cache_control" in b]
    return ModelSettings(
        name=request.model,
        effort=request.effort,
        boundary_effort=request.effort,
        max_tokens=request.max_tokens,
        cache=marks[0] if marks else "1h",
        prices=FREE,
    )


def _same(recorded: Turn, made: Turn) -> None:
    if made == recorded or made.model_copy(update={"based_on": recorded.based_on}) == recorded:
        return
    texts = [
        yaml.safe_dump(turn.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110).splitlines()
        for turn in (recorded, made)
    ]
    raise _differs(f"turn {recorded.turn}: the same replies give another turn", *texts)


def _differs(what: str, before: list[str], after: list[str]) -> NeedsPersonError:
    lines = list(difflib.unified_diff(before, after, "recorded", "now", lineterm="", n=2))
    return NeedsPersonError("\n".join([what, *lines[:80]]))
