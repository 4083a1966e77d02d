"""Drawings of report.html as inline SVG: the primary metric over the iterations, and the tree of a block."""

from __future__ import annotations

import math
from collections.abc import Callable

from orchestrator.core import tree
from orchestrator.core.classify import verdict
from orchestrator.core.mutation import describe
from orchestrator.core.state import Iteration, State
from orchestrator.core.stats import summarise
from orchestrator.formats.entry import metric_text
from orchestrator.views import lines
from orchestrator.views.report_html import text

WIDTH, HEIGHT = 1000, 330
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 40, 26
ROW, INDENT = 26, 34
REACH = 4.0
"""Values further below the median than so many times the spread above it, and than the best value's size (for an R2:
clearly negative ones), are drawn at the lower edge."""


def css_class(state: State, it: Iteration) -> str:
    """Return the colour class of an iteration: best class good, worst bad, others mid, unfinished open."""
    if it.final is None:
        return "open"
    names = [rule.name for rule in state.contract.verdicts]
    at = names.index(verdict(state, it))
    return "good" if at == 0 else "bad" if at == len(names) - 1 else "mid"


def chart(state: State) -> str:
    """Return the metric of each run as a dot, means of replicated nodes with their errors, blocks as bands."""
    name, its = state.contract.primary.name, sorted(state.iterations.items())
    values = [v for _, it in its if (v := it.metric(name).value) is not None]
    if not values:
        return "<p class=dim>no values yet</p>"
    low, high, cut = _range(values)

    def x(i: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (i - 0.5) / max(len(its), 1)

    def y(v: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - min(max(v, low), high)) / (high - low)

    shapes = [*_bands(state, x), *axis(y, low, high, name), *_best(state, y), *_errors(state, x, y)]
    shapes += [_dot(state, i, it, x(i), y, low, len(its)) for i, it in its]
    told = " Values below the range stand at the lower edge (▽)." if cut else ""
    legend = (
        "Each dot is a run: filled the first of its node, hollow a replicate (another training seed), a square one on "
        "another draw of the system, × no value. Bars: mean and standard error of a node with several runs. "
        f"Dashed: the best node's mean in each block.{told}"
    )
    return svg("".join(shapes), WIDTH, HEIGHT, f"{name} over the iterations") + f"<p class=dim>{legend}</p>"


def svg(body: str, width: float, height: float, label: str) -> str:
    """Return a drawing that is as wide as the page."""
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(label)}">{body}</svg>'


def _range(values: list[float]) -> tuple[float, float, bool]:
    """Return the range shown and whether values lie below it."""
    ordered = sorted(values)
    low, high, middle = ordered[0], ordered[-1], ordered[len(ordered) // 2]
    floor = middle - max(REACH * (high - middle), 1.1 * abs(high), 1e-6)
    cut = low < floor and len(values) > 3
    low = next(v for v in ordered if v >= floor) if cut else low
    pad = (high - low) * 0.08 or 0.05 * max(abs(high), 0.1)
    return low - pad, high + pad, cut


def _bands(state: State, x: Callable[[float], float]) -> list[str]:
    shapes = []
    for block in range(1, state.block_of(state.last_iteration) + 1):
        first = state.first_of(block)
        last = min(first + state.n_iter_block + state.fillers.get(block, 0) - 1, state.last_iteration)
        start, end = x(first - 0.5), x(last + 0.5)
        if block % 2 == 0:
            shapes.append(
                f'<rect class="band" x="{start:.1f}" y="{TOP - 20}" width="{end - start:.1f}" '
                f'height="{HEIGHT - TOP - BOTTOM + 20}"/>'
            )
        label = lines.block_label(state, block)
        room = max(3, int((end - start) / 6.5))
        short = label if len(label) <= room else f"{label[: room - 1]}…"
        shapes.append(f'<text x="{start + 4:.1f}" y="{TOP - 7}">{text(short)}<title>{text(label)}</title></text>')
        shapes.append(f'<text class="dim" x="{x(first):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{first}</text>')
    return shapes


def axis(y: Callable[[float], float], low: float, high: float, name: str) -> list[str]:
    """Return lines across the drawing at round values, with their numbers, and what they are at the top."""
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step = next((s for s in (step, 2 * step, 5 * step) if (high - low) / s <= 6), 10 * step)
    tick, rows = math.ceil(low / step) * step, [f'<text class="dim" x="4" y="14">{text(name)}</text>']
    while tick <= high:
        at = y(tick)
        rows.append(
            f'<line class="rule" x1="{LEFT - 5}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="dim" x="{LEFT - 9}" y="{at + 4:.1f}" text-anchor="end">{tick:.5g}</text>'
        )
        tick += step
    return rows


def _best(state: State, y: Callable[[float], float]) -> list[str]:
    """Return a dashed line over each block at its best node's mean."""
    shapes, width = [], (WIDTH - LEFT - RIGHT) / max(len(state.iterations), 1)
    for block in range(1, state.block_of(state.last_iteration) + 1):
        node = tree.best(state, block)
        mean = summarise(state, node, state.contract.primary.name).mean if node else None
        if mean is not None:
            first = state.first_of(block)
            last = min(first + state.n_iter_block + state.fillers.get(block, 0) - 1, state.last_iteration)
            start, end = LEFT + width * (first - 1), LEFT + width * last
            shapes.append(
                f'<line class="mark" stroke-dasharray="5 4" x1="{start:.1f}" x2="{end:.1f}" y1="{y(mean):.1f}" '
                f'y2="{y(mean):.1f}"/>'
            )
    return shapes


def _errors(state: State, x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    shapes = []
    for node in state.nodes.values():
        found = summarise(state, node, state.contract.primary.name)
        if found.mean is not None and found.standard_error is not None:
            at, low, high = (
                x(node.id + 0.25),
                y(found.mean - found.standard_error),
                y(found.mean + found.standard_error),
            )
            told = text(f"node {node.id}: mean {found.mean:.4f} ± {found.standard_error:.4f}, n={found.n}")
            middle = y(found.mean)
            shapes.append(
                f'<path class="mark" stroke-width="1.6" d="M{at:.1f} {low:.1f}V{high:.1f}M{at - 4:.1f} {middle:.1f}'
                f'h8M{at - 2.5:.1f} {low:.1f}h5M{at - 2.5:.1f} {high:.1f}h5"><title>{told}</title></path>'
            )
    return shapes


def _dot(state: State, i: int, it: Iteration, at: float, y: Callable[[float], float], low: float, count: int) -> str:
    name, colour = state.contract.primary.name, css_class(state, it)
    metric, size = it.metric(name), 4.5 if count <= 60 else 3.0
    change = describe(state.contract, it.proposal.mutation)
    told = f"<title>{text(f'iteration {i}, node {it.node}: {metric_text(metric)}, {change}')}</title>"
    bottom = HEIGHT - BOTTOM - 2
    if metric.value is None:
        return f'<text class="{colour}" x="{at:.1f}" y="{bottom}" text-anchor="middle">×{told}</text>'
    if metric.value < low:
        return f'<text class="{colour}" x="{at:.1f}" y="{bottom}" text-anchor="middle">▽{told}</text>'
    hollow = " hollow" if it.proposal.mutation.kind == "replicate" else ""
    high = y(metric.value)
    if hollow and it.proposal.simulation_seed != state.draw(state.nodes[it.node].block):
        return (
            f'<rect class="{colour}{hollow}" x="{at - size:.1f}" y="{high - size:.1f}" width="{2 * size}" '
            f'height="{2 * size}" stroke-width="1.6">{told}</rect>'
        )
    return (
        f'<circle class="{colour}{hollow}" cx="{at:.1f}" cy="{high:.1f}" r="{size}" stroke-width="1.6">{told}</circle>'
    )


def block_tree(state: State, block: int) -> str:
    """Return the tree of a block: each node with its change, mean, error and class."""
    rows = lines.tree_lines(state, block)
    if not rows:
        return "<p class=dim>no nodes</p>"
    at = {it.node: (20 + INDENT * depth, 18 + ROW * k) for k, (depth, it) in enumerate(rows)}
    shapes, widest = [], float(WIDTH)
    for _, it in rows:
        x, y = at[it.node]
        parent = state.nodes[it.node].parent
        if parent in at:
            px, py = at[parent]
            shapes.append(f'<path class="rule" d="M{px} {py + 7}V{y}H{x - 7}" fill="none"/>')
        label = lines.node_line(state, 0, it)
        widest = max(widest, x + 24 + 6.6 * len(label))
        shapes.append(
            f'<circle class="{css_class(state, it)}" cx="{x}" cy="{y}" r="6"/>'
            f'<text x="{x + 14}" y="{y + 4}">{text(label)}</text>'
        )
    return svg("".join(shapes), round(widest), 18 + ROW * len(rows), f"tree of block {block}")
