"""Make a regime's data and read what its preflight measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.core.contract import MetricRule
from orchestrator.core.events import RegimeReady
from orchestrator.core.exploration import Draws
from orchestrator.core.records import Config
from orchestrator.engine import ends, orders
from orchestrator.engine.context import Adapters, Setup
from orchestrator.engine.evaluate import judge_step
from orchestrator.errors import NeedsPersonError
from orchestrator.launch.folder import read_file
from orchestrator.paths import RunPaths

ORACLE_TOLERANCE = 1e-3
PREFLIGHT_LIMIT = 2**20


def ready(
    setup: Setup, adapters: Adapters, config: Config, code: str, go_on: Callable[[], bool], named: str = ""
) -> RegimeReady:
    """Return the regime (named in exploration.yaml or not) that a config trains on, generating its data if need be.

    Raises:
        NeedsPersonError: the generator failed, the data guard refused the data, or the oracle does not score 1.
        StoppedError: `go_on` returned False.
    """
    sha = orders.regime_sha(setup, config)
    seed = config["simulation"].get("seed")
    name = f"{named}, seed {seed}" if named else f"seed {seed}"
    if setup.spec.command:
        return RegimeReady(regime=sha, name=named or "own trainer", regime_name=named, preflight={})
    path = setup.paths.regime(sha).preflight
    if not path.exists():
        _generate(setup, adapters, config, code, go_on)
    try:
        preflight: dict[str, Any] = json.loads(read_file(path, PREFLIGHT_LIMIT))
    except (OSError, ValueError) as error:
        raise NeedsPersonError(f"{path} cannot be read ({error}); remove {path.parent} and run again") from error
    judged = {c.metric for rule in setup.contract.verdicts for c in rule.conditions}
    reason = refusal(preflight, setup.contract.primary, sorted(judged))
    if reason:
        raise NeedsPersonError(f"regime {sha[:12]} ({name}) is not fit to be explored: {reason}. See {path}")
    why = unfit(preflight, setup.contract.primary.name, setup.spec.draws)
    return RegimeReady(regime=sha, name=name, regime_name=named, simulation_seed=seed, unfit=why, preflight=preflight)


def unfit(preflight: dict[str, Any], primary: str, rule: Draws) -> str:
    """Return why a draw's data are too poor to be explored by the rule of exploration.yaml, or ""."""
    ceiling = preflight.get("ceiling", {}).get(primary)
    condition = preflight.get("activity", {}).get("condition_number")
    if not preflight.get("truth", True):
        return ""
    if rule.ceiling is not None and (ceiling is None or ceiling < rule.ceiling):
        return f"its data-limited ceiling of {primary} is {ceiling} (rule draws.ceiling: {rule.ceiling:g})"
    if rule.condition is not None and condition is not None and condition > rule.condition:
        return f"its condition number is {condition:.3g} (rule draws.condition: {rule.condition:g})"
    return ""


def refusal(preflight: dict[str, Any], primary: MetricRule, judged: Sequence[str] = ()) -> str | None:
    """Return why a regime must not be explored, or None.

    The oracle must score 1 on a metric that is to be maximised, 0 on one to be minimised, or the target. Data without
    a truth have no oracle: neither their primary metric nor the metrics `judged` by the classes may need one.
    """
    if not preflight.get("ok", False):
        return str(preflight.get("reason") or "the preflight did not pass")
    if not preflight.get("guard", {}).get("ok", False):
        return str(preflight.get("guard", {}).get("sentence", "the data guard did not pass"))
    if not preflight.get("truth", True):
        return _without_truth(preflight, primary, judged)
    score = preflight.get("oracle", {}).get(primary.name)
    ideal = {"max": 1.0, "min": 0.0, "target": primary.target or 0.0}[primary.direction]
    if score is None or abs(score - ideal) > ORACLE_TOLERANCE:
        told = f"the true parameters score {score} on {primary.name} instead of {ideal:g}"
        return f"{told}: the metric or the data are wrong"
    return None


def _without_truth(preflight: dict[str, Any], primary: MetricRule, judged: Sequence[str]) -> str | None:
    """Return why a recording without a truth cannot be explored by these metrics, or None."""
    absent = preflight.get("absent_metrics", ())
    none = "a truth, and your own data (simulation.activity_file) have none"
    if primary.name in absent:
        return f"the primary metric {primary.name} compares with {none}; set `primary: one_step_R2` in exploration.yaml"
    missing = [name for name in judged if name in absent]
    if missing:
        return (
            f"the classes judge {', '.join(missing)}, which compare with {none}; set `classes:` in exploration.yaml, "
            f"for example {{Converged: {primary.name} > 0.9, Failed: {primary.name} <= 0.9}}"
        )
    return None


def _generate(setup: Setup, adapters: Adapters, config: Config, code: str, go_on: Callable[[], bool]) -> None:
    folder = setup.paths.regime(orders.regime_sha(setup, config)).root
    folder.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        run = RunPaths(folder.with_name(f"{folder.name}.prepare-{number}"))
        if not run.root.exists():
            break
        if adapters.launcher.state(run.root) == "running":  # a generator of a killed engine is still at work
            ends.wait(adapters, run, go_on)
            return
        number += 1
    adapters.launcher.submit(run.root, orders.prepare_order(setup, adapters, config, code, run))
    ends.wait(adapters, run, go_on)
    failed = judge_step(run, adapters.launcher.exit_record(run.root))
    if failed:
        raise NeedsPersonError(f"the data could not be generated: {failed}")
