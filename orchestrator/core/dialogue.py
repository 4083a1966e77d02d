"""What is said to a language model and what comes back, as plain records; and what a reply cost.

Content blocks are those of the Messages API as plain JSON, kept as they came (thinking blocks too: they go back
untouched within a conversation). An image is named by the sha256 of its bytes, `{"type": "image", "source": {"type":
"blob", "media_type": "image/png", "sha256": ...}}`: the adapter puts the bytes in when it sends.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from pydantic import Field

from orchestrator.core.records import Record, sha_of

Block: TypeAlias = dict[str, Any]
"""One content block, message, tool or system block, as the API words it."""
Effort = Literal["low", "medium", "high", "xhigh", "max"]
StopReason = Literal[
    "end_turn", "tool_use", "max_tokens", "stop_sequence", "pause_turn", "refusal", "model_context_window_exceeded"
]


class Request(Record):
    """One request, complete: two requests with equal sha are the same question."""

    model: str
    max_tokens: int = Field(ge=1)
    effort: Effort | None = None
    """Null is the model's own default."""
    tools: tuple[Block, ...] = ()
    system: tuple[Block, ...] = ()
    """Text blocks; with the tools they are the prefix that is cached."""
    messages: tuple[Block, ...]
    """`{"role": "user" | "assistant", "content": [blocks]}`, alternating, the first from the user."""

    @property
    def sha(self) -> str:
        """Sha256 of the canonical JSON."""
        return sha_of(self.model_dump(mode="json"))

    @property
    def images(self) -> int:
        """Number of images in the messages."""
        return sum(_images(message["content"]) for message in self.messages)


def _images(content: Any) -> int:
    if not isinstance(content, list):
        return 0
    return sum(1 if block.get("type") == "image" else _images(block.get("content")) for block in content)


class Usage(Record):
    """Tokens of one reply, as the service counted them."""

    input_tokens: int = Field(default=0, ge=0)
    """Neither read from the cache nor written to it."""
    output_tokens: int = Field(default=0, ge=0)
    """Thinking included."""
    cache_write_tokens: int = Field(default=0, ge=0)
    """Kept for five minutes."""
    cache_write_1h_tokens: int = Field(default=0, ge=0)
    """Kept for an hour."""
    cache_read_tokens: int = Field(default=0, ge=0)

    @property
    def prompt(self) -> int:
        """Tokens of the whole prompt."""
        return self.input_tokens + self.cache_write_tokens + self.cache_write_1h_tokens + self.cache_read_tokens

    @property
    def total(self) -> int:
        """Tokens of prompt and reply."""
        return self.prompt + self.output_tokens

    def plus(self, other: Usage) -> Usage:
        """Return the sum of two usages."""
        mine, theirs = self.model_dump(), other.model_dump()
        return Usage(**{name: mine[name] + theirs[name] for name in mine})


class Reply(Record):
    """One complete reply."""

    content: tuple[Block, ...]
    stop_reason: StopReason
    usage: Usage
    request_id: str = ""
    model: str = ""
    """As the service named it."""


class Rates(Record):
    """Prices in US dollars per million tokens, which is micro-dollars per token."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cache_write: float = Field(ge=0)
    cache_write_1h: float = Field(ge=0)
    cache_read: float = Field(ge=0)


class Prices(Rates):
    """Prices of a model on a date."""

    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    """When they were looked up."""
    long_prompt_tokens: int | None = Field(default=None, ge=1)
    """Prompts longer than this pay `long` for every token of the request; null is one price."""
    long: Rates | None = None


def cost(usage: Usage, prices: Prices) -> int:
    """Return what a reply costs in whole micro-dollars, rounded up. Computed exactly, in fractions."""
    rates: Rates = prices
    if prices.long is not None and prices.long_prompt_tokens is not None and usage.prompt > prices.long_prompt_tokens:
        rates = prices.long
    parts = (
        (usage.input_tokens, rates.input),
        (usage.output_tokens, rates.output),
        (usage.cache_write_tokens, rates.cache_write),
        (usage.cache_write_1h_tokens, rates.cache_write_1h),
        (usage.cache_read_tokens, rates.cache_read),
    )
    return math.ceil(sum((tokens * Fraction(repr(float(rate))) for tokens, rate in parts), Fraction(0)))


def _rates(model_input: float, output: float, read: float) -> dict[str, float]:
    """Return the rates of a model whose cache writes cost 1.25 (five minutes) and 2 times (an hour) its input."""
    return {
        "input": model_input,
        "output": output,
        "cache_write": model_input * 1.25,
        "cache_write_1h": model_input * 2,
        "cache_read": read,
    }


DATE = "2026-10-24"
"""When the prices below were published as in force (the service's pricing page; exploration.yaml may name others)."""
PRICES = {
    "claude-fable-5-1": Prices(date=DATE, **_rates(10.0, 50.0, 0.25)),
    "claude-opus-5-5": Prices(date=DATE, **_rates(4.0, 20.0, 0.20)),
    "claude-opus-5": Prices(date=DATE, **_rates(5.0, 25.0, 0.50)),
    "claude-sonnet-5-5": Prices(date=DATE, **_rates(2.0, 10.0, 0.10)),
    "claude-sonnet-5": Prices(date=DATE, **_rates(2.0, 10.0, 0.20)),
    "claude-haiku-5-5": Prices(
        date=DATE,
        **_rates(0.10, 0.50, 0.01),
        long_prompt_tokens=100_000,
        long=Rates(**_rates(0.50, 2.50, 0.05)),
    ),
}
"""Model -> prices."""
