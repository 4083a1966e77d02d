"""Figures of system `stoichiometry`, PNG, under the sub-paths that the instruction names.

Axis letters: R reactions, E told edges, G grid points, V visited states.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from trainers.scoring.metabolism import Metrics
from trainers.scoring.plots import FAINT, LEARNED, TRUE, TYPES, figure_of, save_figure
from trainers.scoring.stoichiometric import Truth, constants, scaled

SHOWN_ORDERS = (1.0, 2.0, 3.0)
REACTIONS = 8
"""Reactions whose rates are drawn over time: those that vary most."""


def draw_moment(estimate: dict[str, Any], truth: Truth, scores: Metrics, where: str, folder: Path, tag: str) -> None:
    """Write the four figures of an estimate: stoichiometry, both functions, rate constants."""
    plot_stoichiometry(estimate, truth, scores, where, folder / "stoichiometry" / f"comparison_{tag}.png")
    plot_substrate(estimate, truth, scores, where, folder / "function" / "substrate_func" / f"MLP_sub_{tag}.png")
    plot_rates(estimate, truth, scores, where, folder / "function" / "rate_func" / f"MLP_node_{tag}.png")
    plot_constants(estimate, truth, scores, where, folder / "rate_constants" / f"comparison_{tag}.png")


def _told(value: float | None, form: str = ".3f") -> str:
    return "n/a" if value is None else format(value, form)


def plot_stoichiometry(estimate: dict[str, Any], truth: Truth, scores: Metrics, where: str, path: Path) -> None:
    """Draw learned against true S on the told edges, whole numbers marked, substrates and products apart."""
    learned, true = np.asarray(estimate["sto"]), truth.sto
    figure = figure_of(5.2, 4.8)
    axes = figure.subplots()
    low, high = true.min() - 0.7, true.max() + 0.7
    axes.plot([low, high], [low, high], color=TRUE, lw=0.9, ls="--", label="equal")
    for whole in range(int(np.ceil(low)), int(high) + 1):
        axes.axhline(whole, color=FAINT, lw=0.5, alpha=0.5)
    beside = np.random.default_rng(0).uniform(-0.22, 0.22, len(true))
    kinds = (("substrate", truth.is_substrate, TYPES[1]), ("product", ~truth.is_substrate & (true != 0), LEARNED),
             ("decoy", true == 0, FAINT))  # fmt: skip
    for name, mine, colour in kinds:
        if mine.any():
            axes.scatter(true[mine] + beside[mine], learned[mine], s=7, color=colour, alpha=0.6, lw=0, label=name)
    named = {"R2": "stoichiometry_R2", "strict": "stoichiometry_R2_strict", "exact": "exact_match",
             "signs": "sign_accuracy"}  # fmt: skip
    text = "\n".join(f"{label} {_told(scores.get(name))}" for label, name in named.items())
    axes.text(0.03, 0.97, text, transform=axes.transAxes, va="top")
    axes.set(xlabel="true S (spread sideways)", ylabel="learned S", xlim=(low, high),
             ylim=(min(low, float(np.quantile(learned, 0.002))), max(high, float(np.quantile(learned, 0.998)))),
             title=f"Stoichiometry, {where}")  # fmt: skip
    axes.legend(loc="lower right")
    save_figure(figure, path)


def plot_substrate(estimate: dict[str, Any], truth: Truth, scores: Metrics, where: str, path: Path) -> None:
    """Draw the rate of a reaction with one substrate over c, mean 1, at some |s|, with the truth dashed."""
    figure = figure_of(5.8, 4.0, left=0.9)
    axes = figure.subplots()
    c, order = truth.grid_pair.T
    learned, true = scaled(estimate["rate_pair"]), scaled(truth.rate_pair)
    for wanted, colour in zip(SHOWN_ORDERS, TYPES, strict=False):
        mine = order == order[np.argmin(np.abs(order - wanted))]
        axes.plot(c[mine], learned[mine], color=colour, lw=1.4, label=f"learned, |s| = {wanted:.0f}")
        axes.plot(c[mine], true[mine], color=colour, lw=1.1, ls="--", label="true" if wanted == 1.0 else None)
    axes.set(xlabel="concentration c", ylabel="softplus(rate_func(substrate_func)), mean 1",
             title=f"Rate of one substrate, {where}: R2 {_told(scores.get('substrate_func_R2'))}, "
                   f"r {_told(scores.get('substrate_func_corr'))}")  # fmt: skip
    axes.legend(loc="best")
    save_figure(figure, path)


def plot_rates(estimate: dict[str, Any], truth: Truth, scores: Metrics, where: str, path: Path) -> None:
    """Draw rates without constants at the visited states, in the order of time, with the truth dashed."""
    figure = figure_of(6.4, 4.0, left=0.9)
    axes = figure.subplots()
    learned, true = scaled(estimate["rate_visited"]), scaled(truth.rate_visited)
    most = np.argsort(-true.std(axis=0))[:REACTIONS]
    for number, j in enumerate(most):
        colour = TYPES[number % len(TYPES)]
        axes.plot(learned[:, j], color=colour, lw=1.2, label="learned" if number == 0 else None)
        axes.plot(true[:, j], color=colour, lw=1.0, ls="--", label="true" if number == 0 else None)
    axes.set(xlabel="visited state, in the order of (log) time", ylabel="softplus(rate_func(h)), mean 1",
             title=f"Rates of {len(most)} reactions, {where}: R2 {_told(scores.get('rate_func_R2'))}, "
                   f"r {_told(scores.get('rate_func_corr'))}")  # fmt: skip
    axes.legend(loc="best")
    save_figure(figure, path)


def plot_constants(estimate: dict[str, Any], truth: Truth, scores: Metrics, where: str, path: Path) -> None:
    """Draw learned against true log10 k, each with the mean of its rate at visited states taken in."""
    learned, true = constants(estimate, truth)
    figure = figure_of(4.8, 4.6)
    axes = figure.subplots()
    low, high = true.min() - 0.1, true.max() + 0.1
    axes.plot([low, high], [low, high], color=TRUE, lw=0.9, ls="--", label="equal")
    axes.scatter(true, learned, s=9, color=LEARNED, alpha=0.7, lw=0, label="reaction")
    axes.text(0.03, 0.97, f"R2 {_told(scores.get('rate_constants_R2'))}", transform=axes.transAxes, va="top")
    axes.set(xlabel="true log10 k", ylabel="learned log10 k", title=f"Rate constants, {where}")
    axes.legend(loc="lower right")
    save_figure(figure, path)
