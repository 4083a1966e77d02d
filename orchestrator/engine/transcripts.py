"""What was said to the language model and what came back: `prompts/NNNN.json`, one file a request, by its number.

A file holds the reply and what is new in its request. The system text and the tools, the same in every request, lie in
one blob; messages that an earlier request began with are named by it (`continues`: its number, `shared`: how many). So
the files of a conversation are together about as long as its last request, and `request` gives each one back whole.
Pictures are blobs, named by their sha256.

A file is there, whole, or it is not: a call without one had no reply. The engine keeps a reply before the journal says
that it arrived.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from orchestrator.core.dialogue import Block, Effort, Reply, Request
from orchestrator.core.records import Record, canonical
from orchestrator.errors import NeedsPersonError, UserError
from orchestrator.paths import Paths
from orchestrator.ports import Exchange
from orchestrator.store import atomic
from orchestrator.store.blobs import Blobs


class Asked(Record):
    """A request, without what other files hold."""

    model: str
    max_tokens: int
    effort: Effort | None = None
    prefix: str
    """Blob with system text and tools, as JSON."""
    continues: int | None = None
    """Call whose request has the first messages; null when all are here."""
    shared: int = Field(default=0, ge=0)
    """How many messages are taken from there."""
    messages: tuple[Block, ...]
    """Those that follow."""


class Kept(Record):
    """Content of prompts/NNNN.json."""

    transcript: Literal[1] = 1
    call: int = Field(ge=1)
    request_sha: str
    seconds: float
    reply: Reply
    request: Asked


class Transcripts:
    """The exchanges of one exploration, on disk."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._blobs = Blobs(paths.blobs)
        self._last: tuple[int, Request] | None = None

    def keep(self, exchange: Exchange, request: Request) -> None:
        """Write an exchange, durably and wholly or not at all. Raises OSError; nothing of it is there then."""
        prefix = canonical({"system": list(request.system), "tools": list(request.tools)})
        continues, shared = self._shared(exchange.call, request)
        kept = {
            "transcript": 1,
            "call": exchange.call,
            "request_sha": exchange.request_sha,
            "seconds": exchange.seconds,
            "reply": exchange.reply.model_dump(),
            "request": {
                "model": request.model,
                "max_tokens": request.max_tokens,
                "effort": request.effort,
                "prefix": self._blobs.keep(prefix.encode()),
                "continues": continues,
                "shared": shared,
                "messages": request.messages[shared:],
            },
        }
        if not self._paths.prompts.is_dir():
            self._paths.prompts.mkdir(parents=True)
            atomic.sync_folder(self._paths.out)
        atomic.write_bytes(self._paths.prompt(exchange.call), _encoded(kept))
        self._last = (exchange.call, request)

    def kept(self, call: int) -> Exchange | None:
        """Return a kept exchange; None when there is no file, or it is torn or not one of this call."""
        found = self._read(call)
        if isinstance(found, str):
            return None
        return Exchange(call=call, request_sha=found.request_sha, reply=found.reply, seconds=found.seconds)

    def request(self, call: int) -> Request:
        """Return the request of a kept call, exactly as it was sent.

        Raises:
            UserError: no such file, or one that it is made of was changed; names it.
        """
        asked = self._must(call).request
        prefix = json.loads(self._blobs.read(asked.prefix))
        request = Request(
            model=asked.model,
            max_tokens=asked.max_tokens,
            effort=asked.effort,
            tools=prefix["tools"],
            system=prefix["system"],
            messages=tuple(self._messages(call)),
        )
        if request.sha != self._must(call).request_sha:
            raise self._damaged(call, "its request is not the one that was sent")
        return request

    def calls(self) -> list[int]:
        """Return the numbers of the files that are there, smallest first."""
        names = [p.stem for p in self._paths.prompts.glob("*.json")]
        return sorted(int(n) for n in names if n.isascii() and n.isdigit())

    def _messages(self, call: int) -> list[Block]:
        """Return all messages of a call's request, taken together from the calls that it continues."""
        parts: list[tuple[Block, ...]] = []
        need: int | None = None  # of the call at hand; None is all
        at: int | None = call
        while at is not None and need != 0:
            asked = self._must(at).request
            here = asked.messages if need is None else asked.messages[: max(0, need - asked.shared)]
            if need is not None and asked.shared + len(asked.messages) < need:
                raise self._damaged(at, f"it has fewer than the {need} messages that a later call takes from it")
            if asked.continues is not None and asked.continues >= at:
                raise self._damaged(at, f"it continues call {asked.continues}, which came later")
            parts.append(here)
            need = asked.shared if need is None else min(need, asked.shared)
            at = asked.continues
        return [message for part in reversed(parts) for message in part]

    def _shared(self, call: int, request: Request) -> tuple[int | None, int]:
        """Return the call before this one and the number of first messages that both have; (None, 0) without any."""
        before = self._last if self._last is not None and self._last[0] < call else self._before(call)
        if before is None:
            return None, 0
        number, other = before
        shared = 0
        for a, b in zip(other.messages, request.messages, strict=False):
            if canonical(a) != canonical(b):  # as text: to Python 1, 1.0 and True are the same
                break
            shared += 1
        return (number, shared) if shared else (None, 0)

    def _before(self, call: int) -> tuple[int, Request] | None:
        earlier = [n for n in self.calls() if n < call]
        try:
            return (earlier[-1], self.request(earlier[-1])) if earlier else None
        except UserError:
            return None  # a damaged file is no reason to lose a reply: this request is then kept whole

    def _must(self, call: int) -> Kept:
        found = self._read(call)
        if isinstance(found, str):
            raise self._damaged(call, found)
        return found

    def _damaged(self, call: int, why: str) -> NeedsPersonError:
        return NeedsPersonError(
            f"{self._paths.prompt(call)}: {why}. Expected the file as it was written when call {call} was "
            "answered; put it back from a copy of the output folder"
        )

    def _read(self, call: int) -> Kept | str:
        """Return what a call's file holds, or why it cannot be used."""
        try:
            kept = Kept.model_validate(_decoded(self._paths.prompt(call)))
        except FileNotFoundError:
            return "there is no such file"
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        except (ValidationError, RecursionError):
            return "it does not hold an exchange"
        except ValueError as error:
            return f"it is no JSON ({error})"
        return kept if kept.call == call else f"it holds call {kept.call}"


def _encoded(content: dict[str, Any]) -> bytes:
    """Return JSON for people; text that has no UTF-8 form (half of a surrogate pair) is escaped."""
    try:
        return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(content, indent=1) + "\n").encode()


def _decoded(path: Path) -> Any:
    return json.loads(path.read_bytes())
