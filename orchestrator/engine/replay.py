"""Replay: every turn of an exploration again, from recorded replies and recorded runs, without a key.

Each turn names the journal prefix that it saw. The prefix is folded (its runs are the recorded ones), the prompt is
built from it as it is built now, and the recorded reply is played when the request is the same to the letter. Whoever
changes what a model is told, or how a turn is made, sees the difference here. The offline scientist's turns are
recomputed in the same way. Nothing is written.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable

import yaml

from orchestrator.core.contract import Contract
from orchestrator.core.dialogue import Prices, Reply, Request
from orchestrator.core.events import Body, Event, Opened, Refused, Turned
from orchestrator.core.exploration import Budget, ModelSettings
from orchestrator.core.records import Record, Turn
from orchestrator.core.state import Call, State
from orchestrator.engine.context import Setup
from orchestrator.engine.office import Shelf
from orchestrator.engine.reading import Library
from orchestrator.engine.transcripts import Transcripts
from orchestrator.engine.workbench import Workbench
from orchestrator.errors import NeedsPersonError
from orchestrator.llm.recorded import RecordedModel
from orchestrator.ports import CodeOffice, Exchange
from orchestrator.scientist.claude import ClaudeScientist
from orchestrator.scientist.claude.calls import TurnSpentError
from orchestrator.scientist.claude.scientist import NO_TURN, NOT_ASKED
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


class _Office(Shelf):
    """The office of one replayed turn: a journal in memory over the prefix, files and plots of the recorded runs."""

    def __init__(self, library: Library, state: State, code: CodeOffice | None) -> None:
        super().__init__(lambda: library)
        self._state, self.code = state, code
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

    def pause(self, seconds: float, why: str) -> bool:
        return True

    def say(self, text: str) -> None:
        """Say nothing: it was said."""


class _Past:
    """The fold as it was at an event: rolled forward from turn to turn, so that a long journal is folded once."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events
        opened = next(e.body for e in events if isinstance(e.body, Opened))
        self._contract = Contract.model_validate(opened.contract)
        self._state = State(self._contract)

    def at(self, seq: int) -> State:
        """Return the state after the first `seq` events, to which a conversation may add refusals and calls."""
        if seq < self._state.seq:
            self._state = State(self._contract)
        for event in self._events[self._state.seq : seq]:
            self._state.apply(event)
        then = copy.copy(self._state)
        then.memo, then.seen, then.refusals = {}, set(then.seen), list(then.refusals)
        then.calls = {n: c if c.settled is not None else copy.copy(c) for n, c in then.calls.items()}
        return then


def replay(setup: Setup, events: list[Event], say: Callable[[str], None]) -> Replayed:
    """Go through every turn again; return what was found equal.

    Raises:
        ReplayError: a prompt has changed; shows the difference.
        NeedsPersonError: the same replies lead to another turn, or to other refusals; shows the difference.
    """
    past = _Past(events)
    whole = _Past(events).at(len(events))
    code = Workbench(setup.paths, lambda: whole, None) if setup.contract.command is None else None
    asked_about: dict[int, list[Call]] = {}
    for call in whole.calls.values():
        asked_about.setdefault(call.reserved.turn, []).append(call)
    turns = [e.body.turn for e in events if isinstance(e.body, Turned)]
    asked = replies = 0
    for turn in turns:
        calls = asked_about.get(turn.turn, [])
        begun = max((c.reserved.based_on for c in calls), default=turn.based_on)
        if _unasked(turn, begun if calls else None):
            _same(turn, _made_without(setup, past.at(turn.based_on), turn, code))
            continue
        refused = [r.reason for r in whole.refusals if r.turn == turn.turn and r.scientist == ClaudeScientist.name]
        calls = [c for c in calls if c.reserved.based_on == begun]
        replies += _converse(setup, past.at(begun), turn, calls, refused, code)
        asked += bool(calls)
        say(f"turn {turn.turn}: the same prompts and the same turn")
    return Replayed(turns=len(turns), asked=asked, replies=replies)


def _unasked(turn: Turn, begun: int | None) -> bool:
    """Return whether no conversation made a turn, though one may have been begun: a person took Claude off then."""
    if turn.scientist == OfflineScientist.name:
        return not turn.instead.startswith((NO_TURN, NOT_ASKED))
    return turn.based_on != begun  # what a conversation makes is based on what it began with


def _made_without(setup: Setup, state: State, turn: Turn, code: CodeOffice | None) -> Turn:
    """Return a turn for which no model was asked, made again."""
    n = turn.asked or len(turn.proposals)
    if turn.scientist == OfflineScientist.name:
        offline = OfflineScientist()
        if not turn.instead:  # in another's place it edits no code
            offline.attach(_Office(Library(setup), state, code))
        return offline.propose(state, n).model_copy(update={"instead": turn.instead})
    scientist = ClaudeScientist(RecordedModel([]), ModelSettings(prices=FREE), NO_LIMIT)
    scientist.attach(_Office(Library(setup), State(setup.contract), code))
    return scientist.propose(state, n)


def _converse(
    setup: Setup, state: State, turn: Turn, calls: list[Call], refused: list[str], code: CodeOffice | None
) -> int:
    """Replay one conversation; return how many replies it had."""
    exchanges = _recorded(setup, calls)
    asked = calls[0].reserved.asked if calls else turn.asked or len(turn.proposals)
    office = _Office(Library(setup), state, code)
    settings = _settings(exchanges[-1][0]) if exchanges else ModelSettings(prices=FREE)
    scientist = ClaudeScientist(_Played(exchanges, turn.instead), settings, NO_LIMIT)
    scientist.attach(office)
    _same(turn, scientist.propose(state, asked))
    if refused[-len(office.refusals) :] != office.refusals and office.refusals:
        raise _differs(f"turn {turn.turn}: other refusals than recorded", refused, office.refusals)
    return len(exchanges)


class _Played(RecordedModel):
    """The replies of a conversation; after the last one its turn's budget is used up, when that is how it ended."""

    def __init__(self, exchanges: list[tuple[Request, Reply]], instead: str) -> None:
        super().__init__(exchanges)
        self._spent = instead.removeprefix(NOT_ASKED).removesuffix(")") if instead.startswith(NOT_ASKED) else ""
        self._over = not exchanges

    def converse(self, request: Request, image: Callable[[str], bytes], *, longest_s: float | None = None) -> Reply:
        """Return the recorded reply; raises TurnSpentError after the last."""
        if self._spent and self._over:
            raise TurnSpentError(self._spent)
        reply = super().converse(request, image)
        self._over = request.sha == self.exchanges[-1][0].sha
        return reply


def _recorded(setup: Setup, calls: list[Call]) -> list[tuple[Request, Reply]]:
    """Return the requests and replies of a conversation, in order."""
    transcripts = Transcripts(setup.paths)
    replied = [c.reserved for c in calls if c.settled is not None and c.settled.outcome == "replied"]
    latest = {r.request_sha: r.call for r in replied}  # one whose file was gone was asked again
    found = []
    for call in sorted(latest.values()):
        request, exchange = transcripts.request(call), transcripts.kept(call)
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
