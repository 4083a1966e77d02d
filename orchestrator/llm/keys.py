"""Credentials of the model service: taken out of the environment once, passed on explicitly, never shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import quote, unquote

from pydantic import ConfigDict, Field, SecretStr, field_validator

from orchestrator.core.records import Record
from orchestrator.errors import UserError

HOSTS = "ORCHESTRATOR_MODEL_HOSTS"
"""Environment variable; `loopback` makes a request to anything but this machine impossible."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
SERVICE = "https://api.anthropic.com"
ONE_WORD = re.compile(r"[\x21-\x7e]+")
HIDDEN = "[secret]"
SHORTEST = 8
"""Shorter keys are placeholders that servers of one's own ask for (`x`, `none`); to hide them would garble replies."""


class Credentials(Record):
    """What opens the service. Exactly one of key and token; neither is shown by `repr`, by dumps or by errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    api_key: SecretStr | None = None
    auth_token: SecretStr | None = None
    base_url: str | None = Field(default=None, repr=False)
    """Null is the service itself. May hold a user and a password, which are then sent in place of the key (HTTP Basic,
    for a server of one's own behind a gate); so it is not shown either."""
    model: str | None = None
    """What ANTHROPIC_MODEL said; it wins over exploration.yaml."""

    @field_validator("api_key", "auth_token")
    @classmethod
    def _one_word(cls, value: SecretStr | None) -> SecretStr | None:
        # An error about an illegal header would quote the key in a form that is not recognised.
        if value is not None and not ONE_WORD.fullmatch(value.get_secret_value()):
            raise ValueError("expected one word of plain ASCII")
        return value


def credentials(environ: MutableMapping[str, str]) -> Credentials | None:
    """Return what the environment says, or None without a key; no ANTHROPIC_* variable is left in `environ` after.

    Children inherit the environment, so it is emptied before any is started.

    Raises:
        UserError: a value that no request could carry (it is not shown); the variables are gone all the same.
    """
    taken = {name: environ.pop(name).strip() for name in list(environ) if name.startswith("ANTHROPIC_")}
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        if taken.get(name) and not ONE_WORD.fullmatch(taken[name]):
            raise UserError(
                f"{name}: expected one word of plain ASCII letters, digits and signs; found blanks, line ends or other "
                "characters inside it (the value is not shown). Copy the key again from the service's console"
            )
    key, token = taken.get("ANTHROPIC_API_KEY"), taken.get("ANTHROPIC_AUTH_TOKEN")
    if not key and not token:
        return None
    return Credentials(
        api_key=SecretStr(key) if key else None,
        auth_token=SecretStr(token) if token and not key else None,
        base_url=taken.get("ANTHROPIC_BASE_URL") or None,
        model=taken.get("ANTHROPIC_MODEL") or None,
    )


class Redactor:
    """Replaces the secrets of one set of credentials in every text that leaves the adapter."""

    def __init__(self, credentials: Credentials) -> None:
        words = [s.get_secret_value() for s in (credentials.api_key, credentials.auth_token) if s is not None]
        secrets = {word for word in words if len(word) >= SHORTEST}
        userinfo = _userinfo(credentials.base_url or "")
        if userinfo:
            secrets |= {userinfo, unquote(userinfo)}
            password = userinfo.partition(":")[2]
            if len(password) >= SHORTEST:
                secrets |= {password, unquote(password), quote(unquote(password), safe="")}
        # The longest first: a secret that is part of another one must not leave the rest of it standing.
        self._pattern = re.compile("|".join(re.escape(s) for s in sorted(secrets, key=len, reverse=True)) or r"(?!)")

    def __repr__(self) -> str:
        return "Redactor()"

    def text(self, text: str) -> str:
        """Return a text with every secret replaced by `[secret]`."""
        return self._pattern.sub(HIDDEN, text)

    def deep(self, value: Any) -> Any:
        """Return plain JSON with every secret replaced, keys of objects included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.deep(key): self.deep(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.deep(inner) for inner in value]
        return value


def _userinfo(url: str) -> str:
    """Return what stands before the @ of a URL's host (`user:password`), or an empty text."""
    authority = re.split(r"[/?#]", url.partition("://")[2] or url, maxsplit=1)[0]
    return authority.rpartition("@")[0]


def checked_host(base_url: str | None, environ: Mapping[str, str]) -> str:
    """Return the host that requests go to.

    Raises:
        UserError: not an address of a web server, or not this machine although the environment says `loopback`.
    """
    import httpx2

    address = base_url or SERVICE
    try:
        url = httpx2.URL(address)
    except httpx2.InvalidURL:
        url = httpx2.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UserError(
            "ANTHROPIC_BASE_URL: expected an address such as http://127.0.0.1:8080 (http or https, with a host); "
            f"found {Redactor(Credentials(base_url=base_url)).text(address)!r}. Correct it, or leave it out"
        )
    allowed = environ.get(HOSTS, "")
    if allowed not in ("", "loopback"):
        raise UserError(f"{HOSTS}: expected `loopback` or nothing; found {allowed!r}")
    if allowed and url.host not in LOOPBACK:
        raise UserError(
            f"{HOSTS}=loopback allows a model on this machine alone ({', '.join(sorted(LOOPBACK))}); asked for "
            f"{url.host}. Set ANTHROPIC_BASE_URL to a server on this machine, or unset {HOSTS}"
        )
    return url.host
