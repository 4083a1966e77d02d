"""The config of iteration 1, and the regimes: which system is simulated, with which budget."""

from __future__ import annotations

from typing import Any

from orchestrator.core import block_keys, configs
from orchestrator.core.contract import KeyRule, RegimeRule
from orchestrator.core.exploration import Regime
from orchestrator.core.records import Config, canonical
from orchestrator.core.schema import CLAUDE
from orchestrator.formats.work import Work

CARRIED = ("n_epochs", "data_augmentation_loop")
"""Keys of `claude` that set the key of the same name in `training`."""


def base_config(work: Work) -> Config:
    """Return the schema's defaults with config.yaml's values."""
    config: Config = {section: {} for section in work.schema.sections}
    for key in work.schema.keys:
        config[key.section][key.name] = key.typed(key.default)
    _own_values(work, config)
    profiles = {"full": {}, **work.spec.profiles}
    if work.profile not in profiles:
        work.problem("exploration.yaml", f"no profile {work.profile!r}; profiles: {', '.join(profiles)}")
    return config


def start_config(work: Work, base: Config) -> Config:
    """Return the effective config of the first regime (the only system when none is declared)."""
    return _of_regime(work, base, next(iter(work.spec.regimes), None))


def regimes(work: Work, base: Config, keys: list[KeyRule]) -> tuple[RegimeRule, ...]:
    """Return the declared regimes, each with a value for every key that any of them sets.

    A value comes from the regime's own profile, else from the profile, the regime, config.yaml, the schema. Two regimes
    that are one system, and a key that is free and set by a regime, are problems.
    """
    named = dict.fromkeys(k for r in work.spec.regimes for k in (*_simulation(r), *_budget(work, r)))
    known = {f"{section}.{name}" for section, values in base.items() for name in values}
    sets = [k for k in named if k in known]
    sets += [f"training.{n}" for n in CARRIED if f"claude.{n}" in sets]
    sets = _unscaled(work, sets, keys)
    found: list[RegimeRule] = []
    for regime in work.spec.regimes:
        config = _of_regime(work, base, regime)
        found.append(RegimeRule(name=regime.name, values={k: configs.get(config, k) for k in sets}))
    _check(work, found, keys)
    return tuple(found)


def _unscaled(work: Work, sets: list[str], keys: list[KeyRule]) -> list[str]:
    """Return the keys that regimes set, without the budget that a time target scales.

    A regime's values replace those of every node that is carried into it or extended in it: the budget that was found
    for the target would be lost at each step.
    """
    rule = next((k for k in keys if k.key == work.schema.budget and k.level == "free"), None)
    if work.target is None or rule is None or rule.key not in sets:
        return sets
    name = rule.key.partition(".")[2]
    for regime in work.spec.regimes[1:]:
        if f"claude.{name}" in _budget(work, regime):
            where = f"exploration.yaml: regimes.{regime.name}.profiles.{work.profile}"
            text = f"claude.{name} is not used: the time target scales {rule.key} from what the runs before it took"
            work.problem(where, text, stops=False)
    return [k for k in sets if k not in (rule.key, f"claude.{name}")]


def comparison(work: Work, found: tuple[RegimeRule, ...], keys: list[KeyRule]) -> dict[str, Any]:
    """Return what is compared, and the heading of the table of blocks in the instruction's memory skeleton."""
    key = compare(work, found, keys)
    headings = [h.text.lstrip("#").strip() for h in work.draft.memory_headings]
    named = [h for h in headings if h.lower().endswith("comparison table")]
    words = (key or "").partition(".")[2].replace("_", " ")
    heading = next((h for h in named if words and h.lower().startswith(words)), next(iter(named), ""))
    return {"compare": key, "comparison_heading": heading}


def compare(work: Work, found: tuple[RegimeRule, ...], keys: list[KeyRule]) -> str | None:
    """Return the key in which regimes are compared, or over whose values blocks run, by its full name."""
    asked = work.spec.compare
    if asked is None:
        return None
    known = work.key(asked)
    if known is None:
        work.problem("exploration.yaml", f"compare: {asked}: no such key{work.near(asked)}")
        return None
    rule = next((k for k in keys if k.key == known.key), None)
    if rule is not None and rule.level == "block":
        if len(block_keys.allowed(rule)) < 2:
            text = f"compare: {known.key} has no list of values ({rule.source}), so only the scientist may change it; "
            hint = f"give it one: settle: {{{known.key}: {{allowed: [...]}}}}"
            work.problem("exploration.yaml", text + hint, stops=False)
        return known.key
    if len({canonical(r.values.get(known.key)) for r in found}) < 2:
        text = f"compare: {known.key} has one value in all regimes, so nothing is compared; give it another in a regime"
        if known.section != "simulation":
            text += ", or say in the instruction that it changes between blocks only"
        work.problem("exploration.yaml", text, stops=False)
    return known.key


def _simulation(regime: Regime) -> dict[str, Any]:
    return {f"simulation.{k}": v for k, v in regime.simulation.items()}


def _budget(work: Work, regime: Regime) -> dict[str, Any]:
    return regime.profiles.get(work.profile, {})


def _of_regime(work: Work, base: Config, regime: Regime | None) -> Config:
    """Return `base` in a regime: its simulation, the profile, its own profile, the budget carried into training."""
    config = configs.with_values(base, {})
    profile = work.spec.overrides(work.profile)
    where = f"exploration.yaml: profiles.{work.profile}"
    if regime is None:
        work.override(config, profile, where)
    else:
        own, budget = _simulation(regime), _budget(work, regime)
        at = f"exploration.yaml: regimes.{regime.name}"
        work.override(config, own, at)
        for key in (k for k in profile if k in own and k not in budget):
            text = f"{key} is {own[key]} in the regime and {profile[key]} in profile {work.profile}, which wins; "
            work.problem(at, f"{text}say it for this regime: profiles: {{{work.profile}: {{{key}: ...}}}}", stops=False)
        work.override(config, profile, where)
        work.override(config, budget, f"{at}.profiles.{work.profile}")
    if all(k.name in config["claude"] for k in CLAUDE):
        for name in CARRIED:
            foreign = work.spec.command is not None and "training" in config
            if foreign or any(k.key == f"training.{name}" for k in work.schema.keys):
                config.setdefault("training", {})[name] = config["claude"][name]
    return config


def _check(work: Work, found: list[RegimeRule], keys: list[KeyRule]) -> None:
    systems: dict[str, str] = {}
    for rule in found:
        values = {k: v for k, v in rule.values.items() if k.startswith("simulation.")}
        same = systems.setdefault(canonical(values), rule.name)
        if same != rule.name:
            text = "is the same system with every key of `simulation` equal; change one or remove it"
            work.problem(f"exploration.yaml: regimes.{rule.name}", f"regime {same} {text}")
    sets = {k for rule in found for k in rule.values}
    for key in keys:
        if key.level != "frozen" and key.key in sets:
            level = "free" if key.level == "free" else "changed between blocks"
            work.problem(
                "exploration.yaml: regimes",
                f"{key.key} is set by a regime and {level} in {key.source}; it is one of both",
            )


def _own_values(work: Work, config: Config) -> None:
    for section, values in work.config.config.items():
        if section not in work.schema.sections or not isinstance(values, dict):
            known = ", ".join(work.schema.sections)
            work.problem(work.config.where(section), f"section {section!r} is not known; sections: {known}")
            continue
        for name, value in values.items():
            work.set(config, f"{section}.{name}", value, work.config.where(f"{section}.{name}"))
    missing = [k.name for k in CLAUDE if k.name not in work.config.config.get("claude", {})]
    if missing:
        expected = ", ".join(k.name for k in CLAUDE)
        work.problem(work.config.where("claude"), f"`claude:` needs exactly {expected}; missing: {', '.join(missing)}")
