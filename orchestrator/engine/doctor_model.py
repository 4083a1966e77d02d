"""The doctor's look at the language model: key, model, price, budget. Without a key nothing is asked of any server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from orchestrator.core.exploration import Exploration, ModelSettings
from orchestrator.core.state import State
from orchestrator.engine.checks import Check, failed, ok, warning
from orchestrator.errors import InstructionError, ModelRejectedError, ModelUnavailableError
from orchestrator.scientist.claude.forecast import forecast, sentence, too_small

PREFIX_TOKENS = 8_000
"""Of the protocol and the tools, at most."""
TOKEN_CHARACTERS = 3
"""Fewest characters of an instruction to a token, on average."""
SET_KEY = "set ANTHROPIC_API_KEY (and ANTHROPIC_BASE_URL for a server of your own)"


class Card(Protocol):
    """What a service says of a model; null where it does not say."""

    @property
    def display_name(self) -> str: ...
    @property
    def max_input_tokens(self) -> int | None: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def lifecycle(self) -> str | None: ...
    @property
    def retires_at(self) -> str | None: ...
    @property
    def efforts(self) -> tuple[str, ...] | None: ...
    @property
    def images(self) -> bool | None: ...


@dataclass(frozen=True)
class Service:
    """A service that a key is there for."""

    host: str
    describe: Callable[[str], Card | None]
    """Model -> what the service says; raises ModelUnavailableError and ModelRejectedError, without any secret."""
    model: str | None = None
    """What the environment names; it wins over exploration.yaml."""


def look(
    service: Service | None, fault: str, spec: Exploration | None, state: State | None, instruction: str
) -> Iterator[Check]:
    """Yield the checks of the model.

    Args:
        service: None without a key.
        fault: why the key, or the address, cannot be used; "" when it can.
        spec: of the exploration, None without one.
        state: of the exploration, None when it has none.
        instruction: text of the one in force.
    """
    wanted = spec.scientist if spec is not None else None
    settings = spec.model if spec is not None else ModelSettings()
    if service is not None and service.model:
        settings = settings.model_copy(update={"name": service.model})
    yield _key(service, fault, wanted)
    used = service is not None and wanted != "offline"
    if service is not None and used:
        yield _model(service, settings)
    yield _price(settings, used or wanted == "claude")
    if used and spec is not None and state is not None:
        yield from _budget(spec, settings, state, instruction)


def _key(service: Service | None, fault: str, wanted: str | None) -> Check:
    if fault:
        told, _, remedy = fault.rpartition(". ")
        return failed("key", told or fault, remedy if told else SET_KEY)
    if service is None:
        if wanted == "claude":
            remedy = f"{SET_KEY}, or run with SCIENTIST=offline"
            return failed("key", "exploration.yaml asks for the scientist `claude`, and no key is set", remedy)
        return ok("key", "no key: the offline scientist decides")
    if wanted == "offline":
        return ok("key", "a key is set, and not used: exploration.yaml says `scientist: offline`")
    return ok("key", f"a key is set; requests go to {service.host}")


def _model(service: Service, settings: ModelSettings) -> Check:
    """Return whether the service takes the key and knows the model, and whether the settings are within its limits."""
    try:
        card = service.describe(settings.name)
    except ModelRejectedError as error:
        return failed("model", f"{settings.name}: {error}", f"the model is `model: {{name: }}`, else {SET_KEY}")
    except ModelUnavailableError as error:
        return warning("model", f"{settings.name}: {error}", "try again; an exploration would wait for it")
    if card is None:
        return ok("model", f"{settings.name}: the server does not describe models; the first request will tell")
    told = f"the key is accepted; {settings.name}: {_card(card)}"
    faults = _beyond(card, settings)
    if faults:
        return failed("model", f"{told}; but {'; '.join(faults)}", "change `model:` in exploration.yaml")
    if card.lifecycle == "deprecated":
        remedy = "take a newer model in exploration.yaml (`model: {name: }`)"
        return warning("model", f"{told}; it is deprecated, until {card.retires_at or 'a date not told'}", remedy)
    if card.images is False:
        return warning("model", f"{told}; it cannot look at plots", "take a model that sees, or go on without plots")
    return ok("model", told)


def _card(card: Card) -> str:
    parts = [
        card.display_name,
        f"prompts of {card.max_input_tokens} tokens" if card.max_input_tokens else "",
        f"replies of {card.max_tokens}" if card.max_tokens else "",
        f"effort {', '.join(card.efforts)}" if card.efforts else "",
        "sees plots" if card.images else "",
    ]
    return ", ".join(part for part in parts if part) or "no limits told"


def _beyond(card: Card, settings: ModelSettings) -> list[str]:
    """Return what the settings ask for and the model does not have."""
    faults = []
    if card.lifecycle == "retired":
        faults.append("it is retired")
    if card.max_tokens is not None and settings.max_tokens > card.max_tokens:
        faults.append(f"model.max_tokens {settings.max_tokens} is more than a reply can have")
    for name in ("effort", "boundary_effort"):
        value = getattr(settings, name)
        if card.efforts is not None and value is not None and value not in card.efforts:
            faults.append(f"model.{name} {value} is none of its efforts ({', '.join(card.efforts) or 'it has none'})")
    return faults


def _price(settings: ModelSettings, used: bool) -> Check:
    try:
        rates = settings.rates
    except InstructionError as error:
        told, _, remedy = str(error).partition(". ")
        return failed("price", told, remedy) if used else warning("price", f"{told} (no key: not needed now)", remedy)
    source = "exploration.yaml" if settings.prices is not None else "built in"
    return ok(
        "price",
        f"{settings.name}: ${rates.input:g} in, ${rates.output:g} out, ${rates.cache_read:g} from the cache, per "
        f"million tokens ({source}, as of {rates.date})",
    )


def _budget(spec: Exploration, settings: ModelSettings, state: State, instruction: str) -> Iterator[Check]:
    """Yield what the budget will pay for; nothing where no price is known."""
    try:
        found = forecast(state, settings, spec.budget, PREFIX_TOKENS + len(instruction) // TOKEN_CHARACTERS)
        told = sentence(found, state, settings, spec.budget)
    except InstructionError:
        return
    if faulty := too_small(found, spec.budget):
        told, _, remedy = faulty.partition(". ")
        yield failed("budget", told, remedy)
        return
    block = state.contract.n_iter_block
    if found.turns < block:
        yield warning("budget", f"{told}; a block has {block} iterations", "raise budget.max_usd in exploration.yaml")
    else:
        yield ok("budget", told)
