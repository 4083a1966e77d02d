"""Loss terms of the metabolic trainings. Axis letters: P runs, T frames, B batch, M metabolites, R reactions."""

from __future__ import annotations

import math
from typing import Any

import torch

from models.utils import decrease


def dc_unit(dc: torch.Tensor, kind: str) -> torch.Tensor:
    """Return what residuals are divided by: 1, or the standard deviation of dc/dt (P, T, M), overall or of each (M,).

    A metabolite whose dc/dt hardly varies is divided by a millionth of the overall deviation at least.
    """
    if kind == "none":
        return torch.ones((), device=dc.device)
    overall = dc.std()
    if kind == "overall":
        return overall
    return dc.flatten(0, 1).std(dim=0).clamp(min=float(overall) * 1e-6)


def frame_loss(residual: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the prediction loss of a step.

    Args:
        residual: predicted minus true dc/dt (B, M).
        kind: `norm` (sum over frames of the 2-norm over metabolites, the recorded form) or `mse` (mean square).

    Source: reference section 1.3.
    """
    if kind == "mse":
        return residual.square().mean()
    return torch.linalg.vector_norm(residual, dim=1).sum()


def root_mean_square(loss: float, kind: str, batch_size: int, n_metabolites: int) -> float:
    """Return about the root mean square error a metabolite and frame behind a mean `frame_loss`."""
    return math.sqrt(loss) if kind == "mse" else loss / batch_size / math.sqrt(n_metabolites)


def sub_diff(model: Any, grid: torch.Tensor, kind: str) -> torch.Tensor:
    """Return how much substrate_func(c, 1) falls from one grid concentration to the next: 0 for a rising function."""
    values = model.f(grid, torch.ones(1, device=grid.device))
    fall = decrease(values[:-1], values[1:])
    return fall.square().mean() if kind == "mse" else torch.linalg.vector_norm(fall)


def sub_norm(model: Any) -> torch.Tensor:
    """Return (substrate_func(1, 1) - 1)^2."""
    one = torch.ones(1, device=model.log_k.device)
    return (model.f(one, one) - 1.0).square().sum()


def k_floor(log_k: torch.Tensor, threshold: float) -> torch.Tensor:
    """Return the sum over reactions of relu(threshold - log_k)^2."""
    return torch.relu(threshold - log_k).square().sum()


def k_spread(log_k: torch.Tensor) -> torch.Tensor:
    """Return the variance of log_k around its mean."""
    return (log_k - log_k.mean()).square().mean()


def stoichiometry_penalties(model: Any, training: Any) -> dict[str, torch.Tensor]:
    """Return the penalties on a learned S whose coefficients are above 0.

    Source: reference section 1.3: coeff_S_L1 sum |S|, coeff_S_integer mean sin^2(pi S), coeff_mass_conservation
    mean over reactions of (sum_i S_ij)^2.
    """
    terms, sto = {}, model.sto_all
    if training.coeff_S_L1 > 0:
        terms["S_L1"] = training.coeff_S_L1 * sto.abs().sum()
    if training.coeff_S_integer > 0:
        terms["S_integer"] = training.coeff_S_integer * torch.sin(math.pi * sto).square().mean()
    if training.coeff_mass_conservation > 0:
        terms["mass"] = training.coeff_mass_conservation * model.S().sum(dim=0).square().mean()
    return terms


def S_integer(sto: torch.Tensor) -> torch.Tensor:
    """Return the mean of sin^2(pi S) over the edges (E,)."""
    return torch.sin(math.pi * sto).square().mean()


def S_floor(sto: torch.Tensor, rxn_all: torch.Tensor, n_reactions: int, share: float = 0.0) -> torch.Tensor:
    """Return the mean of relu(1 - |S|)^2 over the edges (E,).

    Edges below `share` of the largest of their reaction add nothing: pulled up, they would take the others along.
    """
    size = sto.detach().abs()
    largest = torch.zeros(n_reactions, device=sto.device).scatter_reduce(0, rxn_all, size, "amax")
    return (torch.relu(1.0 - sto.abs()).square() * (size >= share * largest[rxn_all])).mean()


def mass(sto: torch.Tensor, rxn_all: torch.Tensor, n_reactions: int) -> torch.Tensor:
    """Return the mean over reactions of (sum_i S_ij)^2, from the edges (E,)."""
    return torch.zeros(n_reactions, device=sto.device).index_add(0, rxn_all, sto).square().mean()
