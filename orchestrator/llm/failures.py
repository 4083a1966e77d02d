"""What the service's errors mean for the caller: wait and ask again, or a person must change something.

Sentences are built here from the service's own words, from which secrets were taken.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from orchestrator.core.records import Record
from orchestrator.errors import ModelRejectedError, ModelUnavailableError

if TYPE_CHECKING:
    from anthropic import APIStatusError

STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "timeout_error": 408,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 529,
}
"""Status of an error that arrives inside a stream, after the headers have said 200."""
WAITING_HELPS = frozenset({408, 409, 425, 429})
"""And every status from 500 on."""
SPENT = frozenset({"enforced_spend_limit_reached", "contract_spend_limit_reached"})
"""Error codes that come as 429, though no wait of hours helps."""
FEATURES = {
    "thinking": r"(?<![\w.])thinking\b(?!`? block)",
    "effort": r"output_config|\beffort\b",
    "cache": r"cache_control",
}
"""Feature -> how a server names it that does not know it."""
UNKNOWN = (
    r"unknown|unexpected|unrecogni[sz]ed|unsupported|not (?:permitted|supported|allowed)|support|extra|invalid|adaptive"
)
TOO_LONG = r"prompt is too long|context (?:limit|size|length|window)|maximum context"
MESSAGE_LENGTH = 600


class Problem(Record):
    """An error of the service, in its own words."""

    status: int
    kind: str = ""
    """`error.type` of the body."""
    code: str = ""
    message: str = ""
    request_id: str = ""
    retry_after_s: float | None = None

    @property
    def waiting_helps(self) -> bool:
        """Whether the same request may succeed later."""
        return (self.status in WAITING_HELPS or self.status >= 500) and self.code not in SPENT

    @property
    def words(self) -> str:
        """The service's message with type and request id, as part of a sentence."""
        said = f": {self.message}" if self.message else ""
        name = f" {self.kind}" if self.kind else ""
        return f"{self.status}{name}{said}" + (f" (request {self.request_id})" if self.request_id else "")


def problem(error: APIStatusError, clean: Callable[[Any], Any]) -> Problem:
    """Return what an error response says; reads the shapes of other servers too.

    `clean` takes secrets out of JSON: before a long message is cut, since a part of a key is not recognised.
    """
    kind, code, message = _body(clean(error.body))
    status = error.status_code if error.status_code >= 300 else STATUS_OF.get(kind, 500)
    return Problem(
        status=status,
        kind=kind,
        code=code,
        message=message,
        request_id=clean(error.request_id or ""),
        retry_after_s=retry_after(error.response.headers),
    )


def _body(body: object) -> tuple[str, str, str]:
    """Return type, code and message of an error body of whatever shape."""
    inner: Any = body
    if isinstance(body, Mapping):
        inner = next((body[key] for key in ("error", "detail", "message") if body.get(key)), "")
    if not isinstance(inner, Mapping):
        return "", "", _short(str(inner or ""))
    details = inner.get("details")
    code = details.get("error_code") if isinstance(details, Mapping) else None
    return str(inner.get("type") or ""), str(code or ""), _short(str(inner.get("message") or ""))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_LENGTH else text[:MESSAGE_LENGTH] + " ..."


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the service asks to wait, or None when it does not say so legibly."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def unavailable(found: Problem, *, begun: bool) -> ModelUnavailableError:
    """Return the error for a problem that waiting may solve."""
    why = {429: "asks for a pause (rate limit)", 529: "is overloaded"}.get(found.status, "has a problem of its own")
    return ModelUnavailableError(
        f"the model service {why}: {found.words}", maybe_paid=begun, retry_after_s=found.retry_after_s
    )


def rejected(found: Problem, *, model: str, sent: frozenset[str]) -> ModelRejectedError:
    """Return the error for a request that would be turned down again; `sent` are the features it used."""
    return ModelRejectedError(
        f"the model service turned the request down, {found.words}. {_advice(found, model, sent)}"
    )


def _advice(found: Problem, model: str, sent: frozenset[str]) -> str:
    """Return what a person can do about a rejected request."""
    billing = found.status == 402 or found.code in SPENT or "credit balance" in found.message.lower()
    if billing:
        return (
            "The account behind the key may not spend more: check credit and spending limits in the service's console, "
            "then go on with `make resume`"
        )
    if found.status == 413 or re.search(TOO_LONG, found.message, re.IGNORECASE):
        return (
            "The conversation is longer than the model takes: lower `budget: {turn: {max_tokens: }}` in "
            "exploration.yaml so that a turn ends sooner, lower `model: {max_tokens: }`, or shorten the instruction"
        )
    if found.status in (400, 422):
        return _bad_request(found.message, sent)
    if 300 <= found.status < 400:
        return "The address answers with a redirect, which is not followed: set ANTHROPIC_BASE_URL to the final address"
    return {
        401: "The key was not accepted: check ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN)",
        403: f"The key has no permission for this: check in the service's console that it may use the model {model!r}",
        404: (
            f"Either there is no model {model!r}: set `model: {{name: ...}}` in exploration.yaml or ANTHROPIC_MODEL; "
            "or the server has no /v1/messages: check ANTHROPIC_BASE_URL"
        ),
    }.get(found.status, "The same request would be turned down again: check ANTHROPIC_BASE_URL and the model's name")


def _bad_request(message: str, sent: frozenset[str]) -> str:
    blamed = [
        name
        for name, pattern in FEATURES.items()
        if name in sent and re.search(pattern, message, re.IGNORECASE) and re.search(UNKNOWN, message, re.IGNORECASE)
    ]
    if blamed:
        names = " and ".join(f"`{name}`" for name in blamed)
        return f"The server or the model does not know the feature {names}: switch it off for this model"
    return (
        "Expected a request that the service accepts: the message says which part it does not; if exploration.yaml's "
        "`model:` section is not the cause, please report it with the file in prompts/"
    )
