"""Simulate a metabolic regime into its folder. Axis letters: P runs, T frames, M metabolites, E edges, K held-out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from trainers.errors import RefusedError
from trainers.prepare.files import HELDOUT_MAX, ROLLOUT_FRAMES, SHOWN_FRAMES, TRAIN_PART, save
from trainers.prepare.reactions import Network, Simulated, draw_network, simulate_run, simulate_runs
from trainers.settings_metabolism import Metabolism
from trainers.yaml_io import write_text

GRID_POINTS = 101
RECORDED_RANGE = (0.0, 40.0)
"""Concentrations over which the recorded slopes of MLP_node are fitted."""
VISITED = (0.05, 0.95)
"""Quantiles of the training concentrations between which curves are compared."""


def simulate(simulation: Metabolism, folder: Path) -> Network:
    """Draw the network, integrate its runs and a second trajectory, write `train/`, `inputs/`, `truth/`; return it.

    `train/` holds the first 90 % of every run and no truth but what `stoichiometry_given` grants.
    """
    network = draw_network(simulation)
    states = np.random.SeedSequence((simulation.seed, 7)).spawn(simulation.n_runs + 1)
    runs = simulate_runs(network, simulation, [np.random.default_rng(s) for s in states[:-1]], simulation.n_frames)
    second = simulate_run(network, simulation, np.random.default_rng(states[-1]), ROLLOUT_FRAMES, pulses=False)
    if not all(np.isfinite(run.c).all() for run in (*runs, second)):
        raise RefusedError("the simulated concentrations are not finite; lower delta_t or simulation.log_k_max")
    for name in ("train", "inputs", "truth"):
        (folder / name).mkdir(exist_ok=True)
    n_train = int(TRAIN_PART * simulation.n_frames)
    _write_train(network, simulation, runs, n_train, folder)
    _write_rest(network, runs, n_train, second, folder)
    told = {"n_metabolites": simulation.n_metabolites, "n_reactions": simulation.n_reactions, "n_frames": n_train,
            "n_runs": simulation.n_runs, "delta_t": simulation.delta_t}  # fmt: skip
    asked = {"rollout_frames": ROLLOUT_FRAMES, "delta_t": simulation.delta_t}
    write_text(folder / "train" / "dataset.json", json.dumps(told, indent=1) + "\n")
    write_text(folder / "inputs" / "inputs.json", json.dumps(asked, indent=1) + "\n")
    return network


def _write_train(network: Network, s: Metabolism, runs: list[Simulated], n_train: int, folder: Path) -> None:
    dc = np.stack([run.dc[:n_train] for run in runs])
    if s.shuffled_control:
        rng = np.random.default_rng((s.seed, 11))
        dc = np.stack([run[rng.permutation(n_train)] for run in dc])
    save(folder, {"train/c.npy": np.stack([run.c[:n_train] for run in runs]).astype(np.float32),
                  "train/dc.npy": dc.astype(np.float32)})  # fmt: skip
    met, rxn = np.nonzero(with_decoys(network.S, s.seed) if s.decoy_edges else network.S)
    graph: dict[str, Any] = {"met_sub": network.met_sub, "rxn_sub": network.rxn_sub, "met_all": met, "rxn_all": rxn}
    save(folder, {"truth/told_edges.npy": np.stack([met, rxn]), "truth/told_sto.npy": network.S[met, rxn]})
    if s.stoichiometry_given:
        graph |= {"order": network.order.astype(np.float32), "sto": network.S[met, rxn].astype(np.float32)}
    with open(folder / "train" / "graph.npz", "wb") as file:
        np.savez(file, **graph)


def with_decoys(S: np.ndarray, seed: int) -> np.ndarray:
    """Return where an edge is told (M, R): every true one, and as many false products of each reaction.

    The false ones are metabolites that the reaction has not (all of those, where they are fewer). Edges stand in the
    order of metabolites and reactions, so their order tells nothing.
    """
    rng = np.random.default_rng((seed, 13))
    told = S != 0
    for j, true in enumerate(S.T != 0):
        free = np.flatnonzero(~true)
        told[rng.choice(free, size=min(int(true.sum()), len(free)), replace=False), j] = True
    return told


def _write_rest(network: Network, runs: list[Simulated], n_train: int, second: Simulated, folder: Path) -> None:
    held = np.concatenate([run.c[n_train:] for run in runs])
    time = np.concatenate([run.time[n_train:] for run in runs])
    held_dc = np.concatenate([run.dc[n_train:] for run in runs])
    some = np.unique(np.linspace(0, len(held) - 1, HELDOUT_MAX).astype(int))
    held32 = held[some].astype(np.float32)
    seen = np.concatenate([run.c[:n_train] for run in runs])
    low, high = np.quantile(seen, VISITED)
    step = max(1, len(runs[0].c) // SHOWN_FRAMES)
    save(folder, {
        "inputs/grid_c.npy": np.stack([np.linspace(*RECORDED_RANGE, GRID_POINTS),
                                       np.linspace(low, high, GRID_POINTS)]).astype(np.float32),
        "inputs/grid_sub.npy": np.linspace(0.1, max(high, 2.0), GRID_POINTS).astype(np.float32),
        "inputs/heldout_c.npy": held32,
        "inputs/rollout_c0.npy": second.c[:1].astype(np.float32),
        "truth/heldout_dc.npy": held_dc[some],
        "truth/heldout_home.npy": network.homeostasis(held[some], time[some]),
        "truth/heldout_time.npy": time[some],
        "truth/rollout_c.npy": second.c[None],
        "truth/sample.npy": runs[0].c[::step].T.astype(np.float32),
        "truth/S.npy": network.S,
        "truth/met_sub.npy": network.met_sub,
        "truth/rxn_sub.npy": network.rxn_sub,
        "truth/order.npy": network.order,
        "truth/log_k.npy": network.log_k,
        "truth/types.npy": network.types,
        "truth/decay.npy": network.decay,
        "truth/baseline.npy": network.baseline,
    })  # fmt: skip
    c = np.concatenate([run.c for run in runs])
    described = {"n_metabolites": c.shape[1], "n_reactions": network.n_reactions, "n_frames": len(runs[0].c),
                 "n_runs": len(runs), "c_min": c.min(), "c_max": c.max(), "edges": np.count_nonzero(network.S),
                 "substrate_edges": len(network.met_sub),
                 "circadian_amplitude": network.circadian[0], **_ranks(c)}  # fmt: skip
    text = json.dumps({name: float(value) for name, value in described.items()}, indent=1)
    write_text(folder / "truth" / "activity.json", text + "\n")


def _ranks(c: np.ndarray) -> dict[str, float]:
    """Return the modes that hold 90 and 99 % of the variance, uncentred and (99 %) centred."""
    found = {}
    for name, frames, part in (("effective_rank_90", c, 0.9), ("effective_rank_99", c, 0.99),
                               ("effective_rank_99_centred", c - c.mean(axis=0), 0.99)):  # fmt: skip
        power = np.linalg.eigvalsh(frames.T @ frames)[::-1].clip(min=0.0)
        found[name] = float(np.searchsorted(np.cumsum(power) / power.sum(), part) + 1)
    return found
