"""What a configuration key is: a field with unit, aliases and hard range; and its form in schema.json."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field


def key(
    default: Any,
    description: str,
    *,
    unit: str = "dimensionless",
    aliases: tuple[str, ...] = (),
    acts_when: str = "always",
    **bounds: Any,
) -> Any:
    """Return a field of a section; `bounds` are pydantic's ge, gt and le (the hard range)."""
    extra = {"unit": unit, "aliases": list(aliases), "acts_when": acts_when}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


class Section(BaseModel):
    """One section of a config: frozen, and deaf to no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


def fields(config: type[BaseModel]) -> list[tuple[str, str, Any]]:
    """Return (section, key, pydantic field) of every key of a config."""
    found = []
    for section, field in config.model_fields.items():
        assert isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        found += [(section, name, inner) for name, inner in field.annotation.model_fields.items()]
    return found


def extra_of(field: Any) -> dict[str, Any]:
    """Return what a field has beside its type and bounds: unit, aliases, when it acts."""
    return dict(field.json_schema_extra or {})


def describe(field: Any) -> dict[str, Any]:
    """Return a field in the form of schema.json."""
    bounds = {type(m).__name__: getattr(m, type(m).__name__.lower(), None) for m in field.metadata}
    values = get_args(field.annotation) if getattr(field.annotation, "__origin__", None) is Literal else None
    kind = type(values[0]) if values else field.annotation
    name = kind.__name__ if kind in (int, float, bool, str) else "list"
    exclusive = "Gt" in bounds
    minimum = bounds.get("Gt", bounds.get("Ge"))
    described = {"type": name, "default": field.default, "minimum": minimum, "maximum": bounds.get("Le"),
                 "exclusive_minimum": exclusive, "allowed": list(values) if values else None}  # fmt: skip
    return described | extra_of(field) | {"description": field.description}
