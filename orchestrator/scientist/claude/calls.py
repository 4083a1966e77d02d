"""Ask the language model: within the budget, once, and on record whatever is killed.

Before a request its worst cost is reserved in the journal; after the reply is kept on disk the true cost is settled.
A kill in between leaves one of two things: a kept reply, which is used and settled, or none, which is settled as lost
at the reserved cost (it may be on the bill), said aloud, and asked again.
"""

from __future__ import annotations

import json
import time

from orchestrator.core import ledger
from orchestrator.core.dialogue import PRICES, Prices, Reply, Request, Usage, cost
from orchestrator.core.events import LlmReserved, LlmSettled, Waiting
from orchestrator.core.exploration import Budget, ModelSettings
from orchestrator.core.state import Call
from orchestrator.errors import ModelRejectedError, ModelUnavailableError, NeedsPersonError, StoppedError
from orchestrator.ports import Exchange, LanguageModel, Office
from orchestrator.scientist.claude import echo

IMAGE_TOKENS = 1_600
"""At most, for a plot as it is sent."""
BYTES_PER_TOKEN = 2
"""Fewer than any text needs: a reservation is an upper bound."""


BREAKS = 3
"""Replies in a row that broke off, each perhaps on the bill, after which a turn is given up."""


class TurnSpentError(Exception):
    """The budget of one turn, or what it may lose, is used up: the offline scientist takes this turn."""


class Caller:
    """Asks the model for one conversation."""

    def __init__(
        self, model: LanguageModel, settings: ModelSettings, budget: Budget, office: Office, where: tuple[int, int, int]
    ) -> None:
        self._model, self._settings, self._budget, self._office = model, settings, budget, office
        self._turn, self._based_on, self._asked = where
        self._said_again = False

    def ask(self, request: Request, step: int) -> Reply:
        """Return the reply to a request: the one that was kept when it had arrived before, else a new one.

        Raises:
            TurnSpentError: the turn's budget does not allow it, or replies broke off again and again.
            NeedsPersonError: the total budget does not, the service turned it down, or it could not be reached.
            StoppedError: a person asked to stop.
        """
        kept = self._kept(request, step)
        if kept is not None:
            return kept
        waited, pause, breaks = 0.0, self._budget.first_wait_s, 0
        while True:
            if not self._office.pause(0.0, ""):
                raise StoppedError
            call = self._reserve(request, step)
            started = time.monotonic()
            try:
                reply = echo.writable(self._converse(request))
            except ModelRejectedError as error:
                self._settle(call, "rejected", 0, started, sentence=str(error))
                raise
            except ModelUnavailableError as error:
                micro = call.micro_usd if error.maybe_paid else 0
                why = f"{error}{_counted(micro)}"
                self._settle(call, "unavailable", micro, started, sentence=why)
                breaks = breaks + 1 if error.maybe_paid else 0
                if breaks >= BREAKS:
                    raise TurnSpentError(f"{breaks} replies in a row broke off, each perhaps paid: {error}") from None
                pause_s = max(pause, error.retry_after_s or 0.0)
                waited += time.monotonic() - started
                waited += self._wait(call.call, pause_s, waited, why)
                pause = min(pause * 2, self._budget.longest_wait_s)
                continue
            seconds = round(time.monotonic() - started, 3)
            exchange = Exchange(call=call.call, request_sha=request.sha, reply=reply, seconds=seconds)
            self._office.keep(exchange, request)
            self._settle_reply(exchange)
            return reply

    def _converse(self, request: Request) -> Reply:
        left = ledger.minutes_left(self._budget, self._office.ledger(), self._turn)
        return self._model.converse(request, self._office.image, longest_s=None if left is None else left * 60)

    # What was paid already

    def settle_open(self) -> None:
        """Settle every reservation that a kill left open: from its kept reply, or as lost."""
        for call in list(self._office.ledger().calls.values()):
            if call.settled is None:
                self._settle_left(call)

    def _settle_left(self, call: Call) -> None:
        reserved = call.reserved
        exchange = self._office.kept(reserved.call)
        if exchange is not None and exchange.request_sha == reserved.request_sha:
            self._settle_reply(exchange)
            return
        sentence = (
            f"request {reserved.call} was sent and no reply had arrived when the engine died"
            f"{_counted(reserved.micro_usd)}"
        )
        self._office.say(sentence)
        self._office.record(
            LlmSettled(call=reserved.call, outcome="lost", micro_usd=reserved.micro_usd, sentence=sentence)
        )

    def _kept(self, request: Request, step: int) -> Reply | None:
        """Return the reply that had arrived to this request, or None; says when one was paid for and is of no use."""
        paid: Call | None = None
        for call in self._office.ledger().calls.values():
            reserved, settled = call.reserved, call.settled
            here = (reserved.turn, reserved.based_on, reserved.step) == (self._turn, self._based_on, step)
            if here and settled is not None and settled.outcome == "replied":
                exchange = self._office.kept(reserved.call)
                if exchange is not None and exchange.request_sha == request.sha:
                    return exchange.reply
                paid = call
        if paid is not None and not self._said_again:
            self._said_again = True
            self._office.say(_asked_again(paid, request))
        return None

    # A new request

    def _reserve(self, request: Request, step: int) -> LlmReserved:
        state = self._office.ledger()
        tokens = prompt_tokens(request)
        worst = Usage(cache_write_1h_tokens=tokens, output_tokens=request.max_tokens)
        micro = cost(worst, self._settings.rates)
        whole, turn = ledger.refused_by(self._budget, state, self._turn, micro, worst.total)
        if whole is not None:
            raise NeedsPersonError(
                f"the budget of the language model is used up: {whole}. To go on with it raise `budget` in "
                "exploration.yaml and run `make resume`; to go on without it run `make resume` with SCIENTIST=offline"
            )
        if turn is not None:
            raise TurnSpentError(f"the turn's budget is used up: {turn}")
        reserved = LlmReserved(
            call=len(state.calls) + 1,
            turn=self._turn,
            based_on=self._based_on,
            asked=self._asked,
            step=step,
            model=request.model,
            request_sha=request.sha,
            micro_usd=micro,
            tokens=worst.total,
        )
        self._office.record(reserved)
        return reserved

    def _settle_reply(self, exchange: Exchange) -> None:
        reply = exchange.reply
        reserved = self._office.ledger().calls[exchange.call].reserved
        rates = self._rates(reserved.model)
        self._office.record(
            LlmSettled(
                call=exchange.call,
                outcome="replied",
                micro_usd=reserved.micro_usd if rates is None else cost(reply.usage, rates),
                usage=reply.usage,
                stop_reason=reply.stop_reason,
                request_id=reply.request_id,
                seconds=exchange.seconds,
                sentence=""
                if rates
                else f"no price of {reserved.model} is known: it counts with all that was reserved",
            )
        )

    def _rates(self, model: str) -> Prices | None:
        """Return a model's prices: an earlier session may have asked another one; None when they are not known."""
        return self._settings.rates if model == self._settings.name else PRICES.get(model)

    def _settle(self, call: LlmReserved, outcome: str, micro: int, started: float, sentence: str) -> None:
        seconds = round(time.monotonic() - started, 3)
        self._office.record(
            LlmSettled.model_validate(
                {"call": call.call, "outcome": outcome, "micro_usd": micro, "seconds": seconds, "sentence": sentence}
            )
        )

    def _wait(self, call: int, seconds: float, waited: float, why: str) -> float:
        """Wait before the next try; return the seconds. Raises when the limit is reached or a person stops."""
        limit = self._budget.max_wait_h * 3600
        if waited + seconds > limit:
            raise NeedsPersonError(
                f"the language model could not be asked for {waited / 3600:.2g} h ({why}); the next try would be in "
                f"{_told(seconds)}, and budget.max_wait_h is {self._budget.max_wait_h:g}. Run `make resume` when it "
                "answers again, or with SCIENTIST=offline"
            )
        told = f"{why}; trying again in {_told(seconds)}, for up to {self._budget.max_wait_h:g} h in a row"
        self._office.record(Waiting(call=call, seconds=seconds, sentence=told))
        if not self._office.pause(seconds, told):
            raise StoppedError
        return seconds


def _counted(micro: int) -> str:
    if not micro:
        return ""
    return f": it may be on the bill, so it counts with all that was reserved for it, {ledger.usd(micro)}"


def _asked_again(paid: Call, request: Request) -> str:
    reserved = paid.reserved
    if reserved.model != request.model:
        why = f"it was asked of {reserved.model}"
    elif reserved.request_sha != request.sha:
        why = "what is asked now is worded or set differently (exploration.yaml's `model`, or another version)"
    else:
        why = f"prompts/{reserved.call:04d}.json is gone or damaged"
    return f"turn {reserved.turn} is asked, and paid, again, though request {reserved.call} had its reply: {why}"


def _told(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 90 else f"{seconds / 60:.3g} min"


def prompt_tokens(request: Request) -> int:
    """Return an upper bound of a request's prompt tokens, from its length."""
    texts = [request.tools, request.system, request.messages]
    size = sum(len(json.dumps(part, ensure_ascii=False).encode("utf-8", "replace")) for part in texts)
    return size // BYTES_PER_TOKEN + request.images * IMAGE_TOKENS
