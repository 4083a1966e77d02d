"""The SDK's client as this program uses it: explicit credentials, no retries, no redirects, a deadline per reply."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from orchestrator.errors import UserError
from orchestrator.llm.keys import LOOPBACK, SERVICE, Credentials

if TYPE_CHECKING:
    import anthropic
    import httpx2


class TooSlowError(Exception):
    """A reply that does not end."""


def client(
    credentials: Credentials, host: str, *, connect_s: float, silence_s: float, reply_s: Callable[[], float]
) -> anthropic.Anthropic:
    """Return the SDK's client; no credential is read from the environment or from a profile on disk.

    `reply_s` gives the limit of the next reply; it holds for the whole body of a response, pings included: `silence_s`
    alone would wait for ever on a server that sends nothing else.
    """
    import anthropic
    import httpx2

    key, token = credentials.api_key, credentials.auth_token
    if (key is None) == (token is None):
        raise UserError("credentials of the model service: expected a key or a token, and not both")
    timeout = httpx2.Timeout(silence_s, connect=connect_s)
    http: httpx2.Client
    if host in LOOPBACK:
        # No proxy named in the environment may see a request to this machine.
        http = httpx2.Client(timeout=timeout, trust_env=False, follow_redirects=False)
    else:
        http = anthropic.DefaultHttpxClient(timeout=timeout, follow_redirects=False)
    http.event_hooks = {"response": [_deadline(reply_s)]}
    return anthropic.Anthropic(
        api_key=key.get_secret_value() if key else None,
        auth_token=token.get_secret_value() if token else None,
        base_url=credentials.base_url or SERVICE,
        timeout=timeout,
        max_retries=0,
        open_telemetry=False,
        http_client=http,
    )


def _deadline(seconds: Callable[[], float]) -> Callable[[httpx2.Response], None]:
    """Return a hook that ends a response's body when its time is over."""
    import httpx2

    class Timed(httpx2.SyncByteStream):
        def __init__(self, stream: httpx2.SyncByteStream) -> None:
            self._stream = stream
            self._end = time.monotonic() + seconds()

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._stream:
                if time.monotonic() > self._end:
                    raise TooSlowError
                yield chunk

        def close(self) -> None:
            self._stream.close()

    def hook(response: httpx2.Response) -> None:
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = Timed(response.stream)

    return hook
