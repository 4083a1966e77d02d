"""What training may see of a metabolic regime. Axis letters: P runs, T frames, M metabolites, E edges.

`train/c.npy` and `train/dc.npy` hold concentrations and dc/dt of every run, the first 90 % of its frames;
`train/graph.npz` the bipartite graph, with S and the reactant orders only where they are given.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from models.metabolism import Graph
from trainers.errors import RefusedError


class MetabolicData(NamedTuple):
    """Training frames of P runs."""

    c: torch.Tensor
    """Concentrations (P, T, M)."""
    dc: torch.Tensor
    """dc/dt (P, T, M), concentration per unit of time."""
    graph: Graph
    delta_t: float

    def on(self, device: torch.device | str, n_runs: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return c and dc of the first `n_runs` runs on a device.

        Raises:
            RefusedError: the data have fewer runs.
        """
        if n_runs > len(self.c):
            raise RefusedError(f"training.n_runs asks for {n_runs} runs and the data have {len(self.c)}; lower it, or "
                               "raise simulation.n_runs")  # fmt: skip
        return self.c[:n_runs].to(device), self.dc[:n_runs].to(device)


class MetabolicInputs(NamedTuple):
    """Where the final model is asked to predict: grids, K held-out frames, a second trajectory."""

    grid_c: torch.Tensor
    """Concentrations at which node functions are compared: the recorded range, then the visited one (2, G)."""
    grid_sub: torch.Tensor
    """Concentrations at which substrate functions are compared (G_s,)."""
    heldout_c: torch.Tensor
    rollout_c0: torch.Tensor
    rollout_frames: int
    delta_t: float


def _array(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path} cannot be read ({error}); prepare the regime again") from error


def _floats(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(_array(path), dtype=np.float32))


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise RefusedError(f"{path} cannot be read ({error}); prepare the regime again") from error


def load_graph(path: Path, n_metabolites: int, n_reactions: int) -> Graph:
    """Return the graph of graph.npz; raises RefusedError."""
    with _array(path) as held:
        found = {name: torch.from_numpy(held[name]) for name in held.files}
    return Graph(**found, n_metabolites=n_metabolites, n_reactions=n_reactions)


def load_metabolism(train: Path, inputs: Path) -> tuple[MetabolicData, MetabolicInputs]:
    """Return the training frames and the held-out inputs of a regime.

    Raises:
        RefusedError: a file is missing or unreadable, or shapes disagree.
    """
    told, asked = _json(train / "dataset.json"), _json(inputs / "inputs.json")
    graph = load_graph(train / "graph.npz", int(told["n_metabolites"]), int(told["n_reactions"]))
    data = MetabolicData(_floats(train / "c.npy"), _floats(train / "dc.npy"), graph, float(told["delta_t"]))
    wanted = MetabolicInputs(
        grid_c=_floats(inputs / "grid_c.npy"),
        grid_sub=_floats(inputs / "grid_sub.npy"),
        heldout_c=_floats(inputs / "heldout_c.npy"),
        rollout_c0=_floats(inputs / "rollout_c0.npy"),
        rollout_frames=int(asked["rollout_frames"]),
        delta_t=float(asked["delta_t"]),
    )
    m = graph.n_metabolites
    if data.c.shape != data.dc.shape or not m == data.c.shape[2] == wanted.heldout_c.shape[1]:
        raise RefusedError(f"{train}: c, dc, the graph and the inputs disagree about metabolites or frames")
    return data, wanted


class StoichiometryInputs(NamedTuple):
    """Where the final model of learned S is asked to predict; V visited states, G grid points."""

    grid_pair: torch.Tensor
    """Concentration and |s| of a single substrate (G, 2), at which the composed rate is compared."""
    grid_sub: torch.Tensor
    """Concentrations at which substrate_func(c, 1) must not fall (G_s,)."""
    rate_c: torch.Tensor
    """States at which the rate of every reaction is compared (V, M)."""
    heldout_c: torch.Tensor
    rollout_c0: torch.Tensor
    rollout_frames: int
    delta_t: float


def load_stoichiometry(train: Path, inputs: Path) -> tuple[MetabolicData, StoichiometryInputs]:
    """Return the training frames and the held-out inputs of a regime whose S is learned.

    Raises:
        RefusedError: a file is missing or unreadable, or shapes disagree.
    """
    data, others = load_metabolism(train, inputs)
    wanted = StoichiometryInputs(
        grid_pair=_floats(inputs / "grid_pair.npy"),
        grid_sub=others.grid_sub,
        rate_c=_floats(inputs / "rate_c.npy"),
        heldout_c=others.heldout_c,
        rollout_c0=others.rollout_c0,
        rollout_frames=others.rollout_frames,
        delta_t=others.delta_t,
    )
    if wanted.rate_c.shape[1] != data.graph.n_metabolites:
        raise RefusedError(f"{inputs}/rate_c.npy: expected {data.graph.n_metabolites} metabolites")
    return data, wanted
