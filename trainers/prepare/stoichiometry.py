"""Make the data of a stoichiometry regime and measure them: guard, oracle, null, ceiling, baselines.

The stored dc/dt is that of the flux-limited rates, where the config limits them.

Axis letters: P runs, T frames, M metabolites, R reactions, E told edges, G grid points, V visited states.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainers.data_metabolism import StoichiometryInputs, load_stoichiometry
from trainers.frames import log_frames
from trainers.prepare.files import save
from trainers.prepare.metabolic_files import simulate
from trainers.prepare.metabolic_guard import guard, rates_of_functions
from trainers.prepare.reactions import Array, Network
from trainers.scoring.metabolism import Metrics
from trainers.scoring.stoichiometric import Truth, load_truth, matrices, score_estimate
from trainers.settings_stoichiometry import StoichiometryConfig, StoichiometryTraining
from trainers.stoichiometry import estimates, new_model, predictions

GRID_C, GRID_S, GRID_SIDE = (0.0, 10.0), (0.0, 3.0), 50
"""Concentrations and |s| of the grid on which rates of a single substrate are compared (seed document 000)."""
VISITED_STATES = 100
"""Training frames, evenly spread in log time, at which the rates of all reactions are compared."""
GUARD_FRAMES, CEILING_FRAMES = 4000, 6000
NULL_SEED = 0
"""The untrained model is always the same one."""
TOLERANCE = 1e-6
ONE = ("stoichiometry_R2", "stoichiometry_R2_strict", "sign_accuracy", "exact_match", "stoichiometry_R2_reduced",
       "exact_match_reduced", "substrate_func_R2", "substrate_func_corr", "rate_func_R2", "rate_func_corr",
       "rate_constants_R2", "one_step_R2", "test_R2", "test_pearson", "test_R2_100", "test_pearson_100")  # fmt: skip
"""Metrics that the true parameters score 1 on."""
NULL_MAX = 0.1
NULL_CHECKED = ("stoichiometry_R2", "one_step_R2")
MARK = "shuffled_control: dc/dt of the training frames is shuffled in time; nothing can be learned from it"


def make(config: StoichiometryConfig, folder: Path) -> dict[str, Any]:
    """Write the files of a regime into `folder`; return what preflight.json says of them."""
    s = config.simulation
    network = simulate(s, folder)
    assert network.substrate_func is not None and network.rate_func is not None
    functions = {f"{name}_{layer}_{part}": array
                 for name, mlp in (("substrate", network.substrate_func), ("rate", network.rate_func))
                 for layer, pair in enumerate(mlp.layers)
                 for part, array in zip(("weight", "bias"), pair, strict=True)}  # fmt: skip
    with open(folder / "truth" / "functions.npz", "wb") as file:
        np.savez(file, **functions)
    c = np.load(folder / "train" / "c.npy")
    _write_grids(network, c, folder)
    rates = rates_of_functions(functions, s.flux_limit, s.delta_t)
    told = guard(folder, s.delta_t, s.perturbation_every, network.circadian, s.shuffled_control, rates, GUARD_FRAMES)
    truth = load_truth(folder)
    _, inputs = load_stoichiometry(folder / "train", folder / "inputs")
    oracle = score_estimate(estimate_of(network, truth, inputs), truth)
    sto, looked = least_squares(network, truth, c, np.load(folder / "train" / "dc.npy"))
    null = _null(config, folder, inputs, truth)
    reason = None if told["ok"] else told["sentence"]
    reason = reason or oracle_fault(oracle, truth) or null_fault(null)
    marks = [MARK] if s.shuffled_control else []
    return {
        "reason": reason,
        "guard": told,
        "oracle": oracle,
        "null": null,
        "ceiling": matrices(sto, truth),
        "baselines": baselines(truth),
        "activity": truth.activity,
        "looked_at": {"training_frames": c.shape[0] * c.shape[1], "guard": min(GUARD_FRAMES, c.shape[0] * c.shape[1]),
                      "least_squares": looked},
        "marks": marks,
        "warnings": warnings(truth, c.shape[0]),
    }  # fmt: skip


def _write_grids(network: Network, c: Array, folder: Path) -> None:
    """Write where functions are compared, and the true rates there, without their constants and flux limit."""
    pair = np.stack(np.meshgrid(np.linspace(*GRID_C, GRID_SIDE), np.linspace(*GRID_S, GRID_SIDE), indexing="ij"), -1)
    pair = pair.reshape(-1, 2).astype(np.float32)
    frames = log_frames(torch.linspace(0, 0.999, VISITED_STATES), c.shape[1]).numpy()
    visited = np.stack([c[number % len(c), frame] for number, frame in enumerate(frames)])
    save(folder, {"inputs/grid_pair.npy": pair, "inputs/rate_c.npy": visited,
                  "truth/rate_pair.npy": single_rate(network, pair.astype(np.float64)),
                  "truth/rate_visited.npy": shapes_of(network, visited.astype(np.float64))})  # fmt: skip


def single_rate(network: Network, pair: Array) -> Array:
    """Return softplus(rate_func(substrate_func([c, |s|]))) (G,) of pairs (G, 2)."""
    assert network.substrate_func is not None and network.rate_func is not None
    return np.asarray(np.logaddexp(0.0, network.rate_func(network.substrate_func(pair))[:, 0]))


def shapes_of(network: Network, c: Array) -> Array:
    """Return the rates (V, R) without their constants and without flux limit."""
    return network._replace(log_k=np.zeros_like(network.log_k)).rates(c)


def estimate_of(network: Network, truth: Truth, inputs: StoichiometryInputs) -> dict[str, Any]:
    """Return the arrays of an estimate with the true parameters."""
    c = inputs.rollout_c0.double().numpy()
    frames = [c]
    for _ in range(inputs.rollout_frames - 1):
        c = np.maximum(c + inputs.delta_t * network.rhs(c), 0.0)
        frames.append(c)
    return {
        "sto": truth.sto,
        "log_k": network.log_k,
        "rate_pair": single_rate(network, inputs.grid_pair.double().numpy()),
        "rate_visited": shapes_of(network, inputs.rate_c.double().numpy()),
        "heldout_dc": network.rhs(inputs.heldout_c.double().numpy()),
        "rollout_c": np.stack(frames, axis=1),
    }


def least_squares(network: Network, truth: Truth, c: Array, dc: Array) -> tuple[Array, int]:
    """Return S on the told edges (E,) by least squares on the true rates and mass balance, and the frames looked at.

    dc/dt is linear in S once the rates are known, metabolite by metabolite; two reactions that only one metabolite
    limits, alike, share one number there, which mass balance (sum_i S_ij = 0) parts again.

    Args:
        network: the truth.
        truth: the told edges.
        c: training concentrations (P, T, M).
        dc: what training has as dc/dt (P, T, M).

    Looks at up to CEILING_FRAMES frames, in each run evenly spread in log time. Cost: O(E^3), seconds for 969 edges.
    """
    per_run = min(c.shape[1], max(300, CEILING_FRAMES // len(c)))
    if per_run < c.shape[1]:
        rows = np.unique(log_frames(torch.linspace(0, 0.999, per_run), c.shape[1]).numpy())
    else:
        rows = np.arange(c.shape[1])
    seen = c[:, rows].reshape(-1, c.shape[2]).astype(np.float64)
    left = dc[:, rows].reshape(-1, c.shape[2]).astype(np.float64) - network.homeostasis(seen)
    v, (met, rxn) = network.net_rates(seen), truth.edges
    of_metabolites, right = np.zeros((len(met), len(met))), np.zeros(len(met))
    for i in np.unique(met):
        mine = np.flatnonzero(met == i)
        q, triangle = np.linalg.qr(v[:, rxn[mine]])
        of_metabolites[np.ix_(mine[: len(triangle)], mine)], right[mine[: len(triangle)]] = triangle, q.T @ left[:, i]
    of_reactions = np.zeros((network.n_reactions, len(met)))
    of_reactions[rxn, np.arange(len(met))] = np.median(np.linalg.norm(of_metabolites, axis=0))
    whole = np.vstack([of_metabolites, of_reactions])
    size = np.maximum(np.linalg.norm(whole, axis=0), 1e-300)
    sto = np.linalg.lstsq(whole / size, np.concatenate([right, np.zeros(len(of_reactions))]), rcond=1e-12)[0] / size
    return sto, len(seen)


def baselines(truth: Truth) -> Metrics:
    """Return what the graph alone gives: signs, and signs with mass balance. Source: reference section 1.4."""
    found: Metrics = {}
    for name, sto in (("sign_only", signs(truth)), ("mass_balance", balanced(truth))):
        known = matrices(sto, truth)
        found |= {f"{metric}_{name}": known[metric] for metric in ("stoichiometry_R2", "exact_match")}
    found["stoichiometry_R2"] = found["stoichiometry_R2_mass_balance"]
    return found


def signs(truth: Truth) -> Array:
    """Return -1 for each substrate and 1 for every other told edge (E,)."""
    return np.where(truth.is_substrate, -1.0, 1.0)


def balanced(truth: Truth) -> Array:
    """Return -1.5, the mean, for each substrate and an equal share of what they are for the others (E,)."""
    rxn, is_substrate = truth.edges[1], truth.is_substrate
    n_sub = np.bincount(rxn[is_substrate], minlength=len(truth.log_k))
    n_other = np.bincount(rxn[~is_substrate], minlength=len(truth.log_k))
    return np.where(is_substrate, -1.5, 1.5 * n_sub[rxn] / np.maximum(n_other[rxn], 1))


def _null(config: StoichiometryConfig, folder: Path, inputs: StoichiometryInputs, truth: Truth) -> Metrics:
    """Score an untrained model with S from the documented start, whatever start the config asks for."""
    data, _ = load_stoichiometry(folder / "train", folder / "inputs")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(NULL_SEED)
        model = new_model(data.graph, data.delta_t, config.graph_model, StoichiometryTraining())
    arrays = estimates(model, inputs) | predictions(model, inputs)
    return score_estimate({k: v.detach().double().numpy() for k, v in arrays.items()}, truth)


def oracle_fault(oracle: Metrics, truth: Truth) -> str | None:
    """Return a sentence when the true parameters do not score 1."""
    names = [*ONE, "support_AUC"] if truth.has_decoys else list(ONE)
    if truth.activity.get("circadian_amplitude", 0.0) > 0:  # a model without time cannot follow it
        names = [name for name in names if name != "one_step_R2" and not name.startswith("test_")]
    for name in names:
        value = oracle.get(name)
        if value is None or not abs(value - 1.0) < (1e-3 if name.startswith("test_") else TOLERANCE):
            return f"the true parameters score {value} on {name} instead of 1: the metric or the data are wrong"
    return None


def null_fault(null: Metrics) -> str | None:
    """Return a sentence when an untrained model already scores."""
    for name in NULL_CHECKED:
        value = null.get(name)
        if value is not None and value > NULL_MAX:
            return (f"an untrained model scores {value} on {name} (at most {NULL_MAX:g}): the metric can be had for "
                    "nothing")  # fmt: skip
    return None


def warnings(truth: Truth, n_runs: int) -> list[str]:
    """Return sentences about what the data do not tell: they warn and stop nothing."""
    found = ["the graph alone scores on stoichiometry_R2 (baselines): a result counts above both"]
    if n_runs == 1:
        found.append("one trajectory of smooth decay has few modes: S, k and the functions are not jointly "
                     "identifiable from it; the ceiling here knows the true rates and mass balance")  # fmt: skip
    spread = float(np.std(np.log(truth.rate_visited), axis=0).mean())
    found.append(f"where the data are, the true rates without their constants and flux limit vary by {spread:.2g} "
                 "(relative, mean over reactions): that much there is to learn about the functions")  # fmt: skip
    return found
