"""How long a training will take, and the budget that brings it to the time target or keeps it within the time limit.

The estimate is a rule of three: the measured time of one finished run, the *reference*, times the ratio of the products
of the cost keys (`Contract.cost`, divided by those of `Contract.cost_per`). The reference is a run of the same regime
where there is one, then of the same code, then the one whose config is most alike (fewest keys that differ, seeds and
cost keys left out), then one with the same company (runs in flight: beside others a run is slower), of the same block,
and the latest.

*Measured time* is the metric `training_time_min`, which the training's own files state. Nobody trusts them, so it
counts only while it is above 0 and at most the supervisor's seconds, which include start and scoring; else those
seconds are taken. A run that went on from a checkpoint is no reference: its metric and its seconds are of different
parts.

*A key that cannot act* counts 1 (`time_step` of a run without a rollout). Of a finished run its own record of idle keys
says so. A config that has not run is taken to be alike where a run recorded the key as idle for a reason that names
keys ("recurrent_training and neural_ODE_training are false") and the config agrees with the run in all keys named.

*A target and a limit* are two things (docs/design/0011). The budget moves to a target from both sides, and beside any
change. A limit is the config's own (`Contract.time_limit` names the key): the training keeps it by itself, and a
config that is expected to be over it is not proposed; the budget moves down, as far as it has to.

*A run that its limit stopped* tells only that it takes longer: it counts as `TOLERANCE` over, so that budgets go down
until one fits, and the most similar run that was not stopped is asked too. The longer estimate of the two holds.

Not covered: start-up and other constant parts (the estimate is proportional, and gets right as runs near the target
become references); a training that understates its time on purpose gets a larger budget, up to the key's range and the
run's wall limit.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from orchestrator.core import configs
from orchestrator.core.contract import Contract, KeyRule
from orchestrator.core.memo import per_state
from orchestrator.core.records import Change, Config, canonical
from orchestrator.core.state import Iteration, State

TOLERANCE = 0.2
"""Share of the target by which an estimate may be off before the budget is changed."""
OVER = 1.5
"""Times the target from which a run is called over it."""
EXACT = 1e-6
"""Relative difference below which minutes are equal."""
STOPPED = (1.0, 1.05)
"""Shares of its limit between which a training that it stopped ends: it stops at the first step after the limit."""
COMPANY = 0.5
"""Runs in flight by which two runs may differ to count as in the same company."""
METRIC = "training_time_min"

Condition = tuple[tuple[str, str], ...]
"""(key, value as canonical JSON) pairs that a config must have."""


@dataclass(frozen=True)
class Run:
    """What the estimate reads of a finished run."""

    iteration: int
    minutes: float
    traits: dict[str, Any]
    """`section.name` -> value of every key but seeds and cost keys."""
    cost: dict[str, float]
    """Factors of the work, of the cost keys that could act."""
    regime: str
    block: int
    code: str
    company: float | None
    stopped: bool
    """Whether its time limit may have ended it."""

    @property
    def whole(self) -> float:
        """Minutes that it would have taken by itself."""
        return self.minutes * (1 + TOLERANCE) if self.stopped else self.minutes


@dataclass(frozen=True)
class Over:
    """A config that is expected to take longer than its time limit."""

    minutes: float
    limit: float
    reference: int
    """Iteration that the estimate goes by."""
    measured: float
    """Minutes which that one took."""
    stopped: bool
    """Whether its own limit may have ended that one."""
    fits: int | float | None
    """Largest value of the budget key that keeps the limit, two digits; None where no value does, or none may."""


def budget_rule(contract: Contract) -> KeyRule | None:
    """Return the rule of the budget key where it may be scaled: free, and excused from the one-change rule."""
    rule = budget_key(contract)
    return rule if rule is not None and rule.exempt else None


def budget_key(contract: Contract) -> KeyRule | None:
    """Return the rule of the budget key where it is free, explored for itself or not: a time limit may lower it."""
    rule = contract.key(contract.budget) if contract.budget else None
    return rule if rule is not None and rule.level == "free" else None


def limit_min(contract: Contract, config: Config) -> float | None:
    """Return the minutes that a training of a config may take, or None where nothing limits it."""
    section, _, name = contract.time_limit.partition(".")
    value = config.get(section, {}).get(name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        return None
    return float(value)


def is_stopped(minutes: float | None, limit: float | None) -> bool:
    """Return whether a training that took some minutes may have been stopped by its limit."""
    return minutes is not None and limit is not None and STOPPED[0] <= minutes / limit <= STOPPED[1]


def is_timed(contract: Contract) -> bool:
    """Return whether the time of a training is told: there is a target, or a limit."""
    return contract.time_target_min is not None or limit_min(contract, contract.start) is not None


def cost_keys(contract: Contract) -> tuple[str, ...]:
    """Return the keys that say how much work a training is."""
    multiplied = (*contract.cost, contract.budget) if contract.budget else contract.cost
    return tuple(dict.fromkeys((*multiplied, *contract.cost_per)))


def work_text(contract: Contract) -> str:
    """Return the work of a training as a formula, "" when nothing is known of it."""
    over = [key for key in cost_keys(contract) if key not in contract.cost_per]
    return " / ".join((" x ".join(over), *contract.cost_per)) if over else ""


def is_off(contract: Contract, minutes: float | None) -> bool:
    """Return whether an estimate misses the target by more than the tolerance; False without either."""
    target = contract.time_target_min
    return target is not None and minutes is not None and abs(minutes / target - 1) > TOLERANCE


def trained_min(it: Iteration) -> float | None:
    """Return the minutes that a finished run trained (see the module's docstring), or None when it is not known."""
    if it.final is None or it.final.outcome != "ok":
        return None
    stated = it.metric(METRIC).value
    limit = math.fsum(a.ended.seconds for a in it.attempts if a.ended is not None) / 60
    if stated is not None and stated > 0 and (limit <= 0 or stated <= limit):
        return stated
    return limit if limit > 0 else None


def predicted_min(state: State, config: Config, block: int, code: str | None = None) -> float | None:
    """Return the expected training minutes of a config, or None while no finished run is to go by.

    Args:
        state: the fold.
        config: effective config.
        block: in which it would run.
        code: tree sha of the code that would train; null is any.
    """
    found = _estimate(state, config, block, code)
    return None if found is None else found[0]


def over_limit(state: State, config: Config, block: int, code: str | None = None) -> Over | None:
    """Return by how much a config is expected to take longer than its time limit, and the budget that keeps it.

    None without a limit or a finished run to go by, and where the estimate is within. Arguments: those of
    `predicted_min`.
    """
    limit = limit_min(state.contract, config)
    found = _estimate(state, config, block, code) if limit is not None else None
    if limit is None or found is None or found[0] <= limit * (1 + EXACT):
        return None
    minutes, reference = found
    rule, fits = budget_key(state.contract), None
    old = configs.get(config, rule.key) if rule is not None else None
    if rule is not None and isinstance(old, int | float):
        fits = _largest(rule, old * limit / minutes)
    if rule is not None and fits is not None:
        after = predicted_min(state, configs.with_values(config, {rule.key: fits}), block, code) or math.inf
        fits = fits if after <= limit * (1 + EXACT) else None  # where it cannot act it fits nothing
    return Over(minutes, limit, reference.iteration, reference.minutes, reference.stopped, fits)


def no_longer(state: State, base: Config, over: Over, block: int, code: str | None = None) -> bool:
    """Return whether a config over its limit is expected to take no longer than the one that it is changed from.

    Where no budget keeps the limit, such a change is as good as what ran before. Arguments: those of `predicted_min`.
    """
    before = predicted_min(state, base, block, code)
    return over.fits is None and before is not None and over.minutes <= before * (1 + EXACT)


def only_fits(state: State, base: Config, changes: tuple[Change, ...], block: int, code: str | None = None) -> bool:
    """Return whether the change of the budget among several only keeps the time limit, which the others would pass.

    It then has no cause of its own: it goes down to the largest value that fits, or at most `TOLERANCE` below the
    limit. False where the budget is excused from the one-change rule anyway. `base` is the config before the changes;
    the other arguments are those of `predicted_min`.
    """
    rule = budget_key(state.contract)
    own = next((c for c in changes if rule is not None and c.key == rule.key), None)
    if rule is None or rule.exempt or own is None or len(changes) < 2:
        return False
    before = configs.with_values(base, {c.key: c.new for c in changes if c is not own})
    over = over_limit(state, before, block, code)
    if over is None or over.fits is None:
        return False
    after = predicted_min(state, with_budget(before, own), block, code) or math.inf
    close = (1 - TOLERANCE) * over.limit <= after <= over.limit * (1 + EXACT)
    return close or canonical(own.new) == canonical(over.fits)


def wanted_budget(state: State, config: Config, block: int, code: str | None = None) -> Change | None:
    """Return the change of the budget key that brings a config to the time target.

    None without a target, a budget key that may change, or a finished run to go by, and where the estimate is within
    the tolerance or the key's range leaves nothing better. Arguments: those of `predicted_min`.
    """
    rule, target = budget_rule(state.contract), state.contract.time_target_min
    if rule is None or target is None:
        return None
    minutes, old = predicted_min(state, config, block, code), configs.get(config, rule.key)
    if minutes is None or not is_off(state.contract, minutes) or not isinstance(old, int | float):
        return None
    new = _fitted(rule, old * target / minutes)
    return Change(key=rule.key, old=old, new=new) if canonical(new) != canonical(old) else None


def worth_it(state: State, config: Config, change: Change, block: int, code: str | None = None) -> str:
    """Return why a change of the budget key alone is not worth a run, "" when it is.

    It then brings the time to the target, or lowers one that is over the limit.
    `config` is the one before the change.
    """
    target = state.contract.time_target_min
    if over_limit(state, config, block, code) is not None and change.new < change.old:
        return ""  # whether it goes down far enough is another rule's
    if target is None:
        return "no time target is set"
    before = predicted_min(state, config, block, code)
    if before is None:
        return "no run has ended yet that tells how long a training takes"
    if not is_off(state.contract, before):
        return f"the training is expected to take {shown(before)} min and the target is {shown(target)}"
    after = predicted_min(state, with_budget(config, change), block, code)
    if after is None or abs(math.log(after / target)) >= abs(math.log(before / target)):
        return f"it does not bring the training ({shown(before)} min expected) nearer to the target {shown(target)}"
    return ""


def with_budget(config: Config, change: Change) -> Config:
    """Return a config with another budget."""
    return configs.with_values(config, {change.key: change.new})


def shown(minutes: float) -> str:
    """Return minutes as people read them: `1.6`, `120`, `0.043`."""
    if minutes >= 100:
        return f"{minutes:.0f}"
    return f"{minutes:.2g}" if minutes < 10 else f"{minutes:.3g}"


def _fitted(rule: KeyRule, value: float) -> Any:
    """Return the value of a key nearest to a wanted one: in its type, list and range, and never 0."""
    if rule.allowed:
        positive = [v for v in rule.allowed if isinstance(v, int | float) and v > 0]
        return min(positive, key=lambda v: abs(math.log(v / value)), default=rule.start)
    low = max(rule.low if rule.low is not None else 0.0, 1.0 if rule.type == "int" else 0.0)
    high = rule.high if rule.high is not None else math.inf
    if rule.type == "int":
        return int(min(max(round(min(value, 2.0**53)), math.ceil(low)), math.floor(min(high, 2.0**53))))
    return min(max(float(f"{value:.3g}"), low), high) or value


def _largest(rule: KeyRule, most: float) -> int | float | None:
    """Return the largest value of a key up to a wanted one: its list's, or two digits; None where it has none."""
    most *= 1 + EXACT / 10
    if rule.allowed:
        return max((v for v in rule.allowed if isinstance(v, int | float) and 0 < v <= most), default=None)
    most, whole = min(most, 2.0**53), rule.type == "int"
    low = max(rule.low if rule.low is not None else 0.0, 1.0 if whole else 0.0)
    if most <= 0 or most < (math.ceil(low) if whole else low):
        return None
    if rule.high is not None and most >= rule.high:
        return math.floor(rule.high) if whole else rule.high
    digit = 10.0 ** (math.floor(math.log10(most)) - 1)
    if whole:
        unit = max(1, round(digit))
        return max(int(most) // unit * unit, math.ceil(low))
    return max(float(f"{math.floor(most / digit * (1 + EXACT / 10)) * digit:.2g}"), low)


# The reference


def _estimate(state: State, config: Config, block: int, code: str | None) -> tuple[float, Run] | None:
    """Return the minutes of a config by the rule of three, and the reference that they go by."""
    mine = _work(config, state.contract, _idle_when(state))

    def scaled(reference: Run) -> float:
        keys = mine.keys() | reference.cost.keys()
        return reference.whole * math.prod(mine.get(k, 1.0) / reference.cost.get(k, 1.0) for k in sorted(keys))

    found = _references(state, config, block, code)
    return max(((scaled(run), run) for run in found), key=lambda pair: pair[0], default=None)


def _references(state: State, config: Config, block: int, code: str | None) -> list[Run]:
    """Return the finished run that tells most about a config, and where it was stopped, the next that was not."""
    traits, regime = _traits(config, cost_keys(state.contract)), state.regime_name(block)
    beside = state.session.slots if state.session is not None else 1

    def unlike(run: Run) -> tuple[int, ...]:
        keys = traits.keys() | run.traits.keys()
        differs = sum(traits.get(k) != run.traits.get(k) for k in keys)
        return (
            run.regime != regime,
            code is not None and run.code != code,
            differs,
            _other_company(run.company, beside),
            run.block != block,
            -run.iteration,
        )

    ranked = sorted(_runs(state), key=unlike)
    whole = next((i for i, run in enumerate(ranked) if not run.stopped), len(ranked))
    return [*ranked[: min(whole, 1)], *ranked[whole : whole + 1]]


def _other_company(company: float | None, beside: int) -> bool:
    return beside > 1 if company is None else abs(company - beside) > COMPANY


@per_state
def _runs(state: State) -> list[Run]:
    """Return the finished runs that may be a reference."""
    found, keys = [], cost_keys(state.contract)
    for i, it in sorted(state.iterations.items()):
        minutes = trained_min(it)
        if it.final is None or minutes is None or it.attempts[-1].resumes is not None:
            continue
        config = state.nodes[it.node].config
        idle, limit = it.final.keys_idle, limit_min(state.contract, config)
        found.append(
            Run(
                iteration=i,
                minutes=minutes,
                traits=_traits(config, keys),
                cost={k: v for k, v in _factors(config, state.contract).items() if k not in idle},
                regime=state.regime_name(it.block),
                block=it.block,
                code=it.proposal.code,
                company=it.final.in_flight,
                stopped=is_stopped(minutes, limit),
            )
        )
    return found


def _traits(config: Config, cost: tuple[str, ...]) -> dict[str, Any]:
    return {
        key: value
        for section, values in config.items()
        if section != "claude"
        for name, value in values.items()
        if (key := f"{section}.{name}") not in cost and key not in configs.SEED_KEYS
    }


def _factors(config: Config, contract: Contract) -> dict[str, float]:
    """Return the factors of the work: of the cost keys whose value is a number above 0; nothing else can be one."""
    found = {}
    for key in cost_keys(contract):
        section, _, name = key.partition(".")
        value = config.get(section, {}).get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            found[key] = 1.0 / value if key in contract.cost_per else float(value)
    return found


# Keys that cannot act


def _work(config: Config, contract: Contract, idle_when: dict[str, set[Condition]]) -> dict[str, float]:
    """Return the factors of the work of a config, of the cost keys that can act."""
    factors = _factors(config, contract)
    return {k: v for k, v in factors.items() if not any(_meets(config, c) for c in idle_when.get(k, ()))}


def _meets(config: Config, condition: Condition) -> bool:
    return all(_value(config, key) == value for key, value in condition)


def _value(config: Config, key: str) -> str:
    section, _, name = key.partition(".")
    return canonical(config.get(section, {}).get(name))


@per_state
def _idle_when(state: State) -> dict[str, set[Condition]]:
    """Return for each cost key the values of other keys at which runs recorded that it cannot act."""
    found: dict[str, set[Condition]] = {}
    for it in state.done:
        assert it.final is not None
        config = state.nodes[it.node].config
        for key in cost_keys(state.contract):
            reason = it.final.keys_idle.get(key)
            if reason is not None:
                named = _named(config, key, reason) or sorted(_traits(config, cost_keys(state.contract)))
                found.setdefault(key, set()).add(tuple((k, _value(config, k)) for k in named))
    return found


def _named(config: Config, key: str, reason: str) -> list[str]:
    """Return the keys that a reason names, the key itself left out."""
    words = set(re.findall(r"\w+", reason))
    return [
        f"{section}.{name}"
        for section, values in config.items()
        if section != "claude"
        for name in values
        if name in words and f"{section}.{name}" != key
    ]
