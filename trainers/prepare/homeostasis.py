"""Make the data of a homeostasis regime and measure them: guard, oracle, null, ceiling, baselines.

Axis letters: T frames, M metabolites, R reactions, K held-out frames.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.data_metabolism import MetabolicInputs, load_metabolism
from trainers.homeostasis import estimates, new_model, predictions
from trainers.prepare.identify import Identified, identify
from trainers.prepare.metabolic_files import simulate
from trainers.prepare.metabolic_guard import guard
from trainers.prepare.reactions import Network
from trainers.scoring.metabolism import Metrics, Truth, load_truth, score_estimate
from trainers.settings_homeostasis import HomeostasisConfig
from trainers.yaml_io import write_text

NULL_SEED = 0
"""The untrained model is always the same one."""
TOLERANCE = 1e-6
ONE = ("rate_constants_R2", "rate_constants_R2_identifiable", "rate_constants_R2_strict", "trimmed_R2", "slope",
       "alpha", "homeostasis_R2", "MLP_sub_R2", "one_step_R2", "test_R2", "test_pearson", "test_R2_100")  # fmt: skip
"""Metrics that the true parameters score 1 on, besides those of slopes and types where there are any."""
OF_DYNAMICS = ("homeostasis_R2", "one_step_R2", "test_R2", "test_pearson", "test_R2_100")
NULL_MAX, CHANCE = 0.1, 5.0
"""Largest score of an untrained model, and what comes on top over the number of reactions: squared correlations of few
values are not small (95 % of them are below 3.84 over the number)."""
NULL_CHECKED = ("rate_constants_R2", "rate_constants_R2_identifiable", "homeostasis_R2", "one_step_R2")


def make(config: HomeostasisConfig, folder: Path) -> dict[str, Any]:
    """Write the files of a regime into `folder`; return what preflight.json says of them."""
    s = config.simulation
    network = simulate(s, folder)
    told = guard(folder, s.delta_t, s.perturbation_every, network.circadian, s.shuffled_control)
    c, dc = (
        np.load(folder / "train" / f"{n}.npy").astype(np.float64).reshape(-1, s.n_metabolites) for n in ("c", "dc")
    )
    exact = network.rhs(c) if s.shuffled_control else dc
    allowed = identify(network, c, exact)
    np.save(folder / "truth" / "identifiable.npy", allowed.identifiable)
    active = json.loads((folder / "truth" / "activity.json").read_text())
    active |= {"condition_number": allowed.condition, "identifiable_reactions": float(allowed.identifiable.sum()),
               "homeostasis_share": _share(network, c, exact)}  # fmt: skip
    write_text(folder / "truth" / "activity.json", json.dumps(active, indent=1) + "\n")
    truth = load_truth(folder)
    _, inputs = load_metabolism(folder / "train", folder / "inputs")
    oracle = score_estimate(estimate_of(network, network.log_k, _true_home(network), inputs), truth)
    ceiling = score_estimate(estimate_of(network, allowed.log_k, allowed.homeostasis, inputs), truth)
    null = _null(config, folder, inputs, truth)
    equal = np.full_like(network.log_k, network.log_k.mean())
    plainest = score_estimate(estimate_of(network, equal, 0 * _true_home(network), inputs), truth)
    reason = None if told["ok"] else told["sentence"]
    reason = reason or oracle_fault(oracle, truth) or null_fault(null, int(allowed.identifiable.sum()))
    marks = ["shuffled_control: dc/dt of the training frames is shuffled in time; nothing can be learned from it"]
    return {
        "reason": reason,
        "guard": told,
        "oracle": oracle,
        "null": null,
        "ceiling": ceiling,
        "baselines": plainest,
        "activity": truth.activity,
        "looked_at": {"training_frames": len(c)},
        "marks": marks if s.shuffled_control else [],
        "warnings": warnings(network, allowed),
    }


def _share(network: Network, c: Any, dc: Any) -> float:
    """Return rms(homeostatic term) / rms(dc/dt) over the training frames."""
    return float(np.sqrt(np.mean(network.homeostasis(c) ** 2) / np.mean(dc**2)))


def _true_home(network: Network) -> Any:
    return np.stack([-network.decay, network.decay * network.baseline], axis=1)


def estimate_of(network: Network, log_k: Any, home: Any, inputs: MetabolicInputs) -> dict[str, Any]:
    """Return the arrays of an estimate with these rate constants (R,), slope and offset of each type (types, 2)."""
    slope, offset = home[network.types].T
    known = network._replace(log_k=np.asarray(log_k))
    grid_c, grid_sub = inputs.grid_c.double().numpy(), inputs.grid_sub.double().numpy()

    def term(c: Any) -> Any:
        return slope * c + offset

    def rhs(c: Any) -> Any:
        return known.rates(c) @ known.S.T + term(c)

    c, held = inputs.rollout_c0.double().numpy(), inputs.heldout_c.double().numpy()
    frames = [c]
    for _ in range(inputs.rollout_frames - 1):
        c = np.maximum(c + inputs.delta_t * rhs(c), 0.0)
        frames.append(c)
    met, rxn = np.nonzero(network.S)
    return {
        "log_k": known.log_k,
        "a": np.stack([network.types, network.types], axis=1).astype(float),
        "sto": network.S[met, rxn],
        "alpha": np.ones(1),
        "sub": np.stack([grid_sub, grid_sub**2]),
        "node": np.stack([slope[:, None] * grid[None] + offset[:, None] for grid in grid_c]),
        "heldout_dc": rhs(held),
        "heldout_home": term(held),
        "rollout_c": np.stack(frames, axis=1),
    }


def _null(config: HomeostasisConfig, folder: Path, inputs: MetabolicInputs, truth: Truth) -> Metrics:
    data, _ = load_metabolism(folder / "train", folder / "inputs")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(NULL_SEED)
        model = new_model(data.graph, config.graph_model, config.training)
    arrays = estimates(model, inputs) | predictions(model, inputs)
    return score_estimate({k: v.detach().double().numpy() for k, v in arrays.items()}, truth)


def oracle_fault(oracle: Metrics, truth: Truth) -> str | None:
    """Return a sentence when the true parameters do not score 1."""
    moving = truth.activity.get("circadian_amplitude", 0.0) > 0  # a model without time cannot follow it
    names = [name for name in ONE if not (moving and name in OF_DYNAMICS)]
    names += [f"MLP_node_slope_ratio_{t}" for t, decay in enumerate(truth.decay) if decay]
    if truth.n_types > 1:
        names += ["embedding_cluster_acc", "embedding_cluster_acc_kmeans"]
    for name in names:
        value = oracle.get(name)
        if value is None and name == "homeostasis_R2":
            continue
        if value is None or not abs(value - 1.0) < (1e-3 if name.startswith("test_") else TOLERANCE):
            return f"the true parameters score {value} on {name} instead of 1: the metric or the data are wrong"
    return None


def null_fault(null: Metrics, n_identifiable: int) -> str | None:
    """Return a sentence when an untrained model already scores, beyond what few reactions correlate by chance."""
    most = NULL_MAX + CHANCE / max(1, n_identifiable)
    for name in NULL_CHECKED:
        value = null.get(name)
        if value is not None and value > most:
            return (
                f"an untrained model scores {value} on {name} (at most {most:.3g}): the metric can be had for nothing"
            )
    return None


def warnings(network: Network, allowed: Identified) -> list[str]:
    """Return sentences about what the data do not tell: they warn and stop nothing."""
    found = []
    together = [g for g in allowed.groups if len(g) > 1]
    if together:
        found.append(f"{len(together)} groups of reactions only show together, their rate constants cannot be told "
                     f"apart: {', '.join(map(str, together))}")  # fmt: skip
    empty = [g[0] for g in allowed.groups if len(g) == 1]
    if empty:
        found.append(f"reactions without effect on the data, their rate constants cannot be learned: {empty}")
    if (network.order == 1).all():
        found.append("every reactant has order 1: MLP_sub(c, 2), the c^2 curve, is not excited by these data")
    return found
