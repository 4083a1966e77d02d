"""Values that follow from a state and are asked for many times between two events."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Concatenate, ParamSpec, TypeVar, cast

from orchestrator.core.state import State

P = ParamSpec("P")
T = TypeVar("T")


def per_state(function: Callable[Concatenate[State, P], T]) -> Callable[Concatenate[State, P], T]:
    """Return `function`, computed once for each state and hashable arguments; `State.apply` empties the memory."""

    @functools.wraps(function)
    def remembered(state: State, *args: P.args, **kwargs: P.kwargs) -> T:
        key: tuple[Hashable, ...] = (function, args, tuple(sorted(kwargs.items())))
        if key not in state.memo:
            state.memo[key] = function(state, *args, **kwargs)
        return cast(T, state.memo[key])

    return cast("Callable[Concatenate[State, P], T]", remembered)
