"""`make report`: one self-contained report.html, made from the journal and the run folders; no server, no script.

Tree of each block as SVG, the primary metric over the iterations with replicates, every node's change against its
parent, the plots of the best nodes, and the memory.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable
from pathlib import Path

from orchestrator.core import tree
from orchestrator.core.classify import verdict
from orchestrator.core.mutation import describe
from orchestrator.core.state import Iteration, State
from orchestrator.core.stats import noise, summarise
from orchestrator.engine.sealing import state_of
from orchestrator.formats import memory
from orchestrator.formats.entry import metric_text
from orchestrator.paths import Paths, RunPaths
from orchestrator.store import atomic
from orchestrator.views import lines

BEST_NODES = 3
"""Nodes whose plots are shown."""
IMAGE_LIMIT = 2**20
WIDTH = 900
ROW, INDENT = 26, 34

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#1b1f24;max-width:960px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem;border-bottom:1px solid #d0d7de;padding-bottom:.3rem}
table{border-collapse:collapse;width:100%;font-size:13px}td,th{border-bottom:1px solid #e4e8ec;padding:.25rem .5rem;
text-align:left;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}
pre{background:#f6f8fa;padding:.8rem;overflow-x:auto;font-size:12.5px;white-space:pre-wrap}
img{max-width:31%;vertical-align:top;margin:.3rem 1%}svg text{font:12px system-ui,sans-serif}.dim{color:#59636e}
"""
COLOURS = ("#1a7f37", "#9a6700", "#cf222e")
"""Best class, middle classes, worst class."""
OPEN = "#8c959f"


def write(paths: Paths) -> Path:
    """Write report.html into the output folder and return its path.

    Raises:
        UserError: nothing has run there yet.
    """
    target = paths.out / "report.html"
    atomic.write_text(target, render(paths, state_of(paths)))
    return target


def render(paths: Paths, state: State) -> str:
    """Return the whole page."""
    title = html.escape(f"{paths.source.name}: {state.contract.title}")
    blocks = range(1, state.block_of(max(state.last_iteration, 1)) + 1)
    parts = [
        f"<h1>{title}</h1>",
        f"<p>{html.escape(lines.best_line(state))}<br>{html.escape(_counts(state))}</p>",
        "<h2>Primary metric over the iterations</h2>",
        _chart(state),
        *(f"<h2>Tree, block {b}</h2>{_tree(state, b)}" for b in blocks),
        "<h2>Iterations</h2>",
        _table(state),
        "<h2>Best nodes</h2>",
        *_plots(paths, state),
        "<h2>Working memory</h2>",
        f"<pre>{html.escape(memory.render(state))}</pre>",
    ]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>\n"


def _counts(state: State) -> str:
    failed = sum(it.outcome != "ok" for it in state.done)
    seconds = sum(it.final.seconds for it in state.done if it.final)
    floor = noise(state, state.contract.primary.name)
    spread = "not measured" if floor.sd is None else f"{floor.sd:.4f} ({floor.degrees} d.o.f.)"
    return (
        f"{len(state.done)} iterations, {len(state.nodes)} nodes, {failed} failed runs, "
        f"{lines.duration(seconds)} of training and scoring, noise floor {spread}."
    )


def _colour(state: State, it: Iteration) -> str:
    if it.final is None:
        return OPEN
    names = [rule.name for rule in state.contract.verdicts]
    at = names.index(verdict(state, it))
    return COLOURS[0] if at == 0 else COLOURS[2] if at == len(names) - 1 else COLOURS[1]


def _chart(state: State) -> str:
    """Return the metric of each run as a dot (replicates hollow) with the best mean so far as a line."""
    name = state.contract.primary.name
    points = [(i, it, it.metric(name).value) for i, it in sorted(state.iterations.items())]
    values = [v for _, _, v in points if v is not None]
    if not values:
        return "<p class=dim>no values yet</p>"
    low, high = min(values), max(values)
    pad = (high - low) * 0.08 or 0.05
    low, high = low - pad, high + pad

    def x(i: int) -> float:
        return 60 + (WIDTH - 80) * (i - 0.5) / max(len(points), 1)

    def y(v: float) -> float:
        return 20 + 220 * (high - v) / (high - low)

    shapes = [_axis(y, low, high, name)]
    for i, it, value in points:
        colour = _colour(state, it)
        change = describe(state.contract, it.proposal.mutation)
        shown = html.escape(f"iteration {i}: {metric_text(it.metric(name))}, {change}")
        if value is None:
            shapes.append(f'<text x="{x(i):.1f}" y="236" fill="{colour}">×<title>{shown}</title></text>')
            continue
        fill = "none" if it.proposal.mutation.kind == "replicate" else colour
        shapes.append(
            f'<circle cx="{x(i):.1f}" cy="{y(value):.1f}" r="4" fill="{fill}" stroke="{colour}" stroke-width="1.5">'
            f"<title>{shown}</title></circle>"
        )
    return f'<svg viewBox="0 0 {WIDTH} 260" role="img">{"".join(shapes)}</svg><p class=dim>Hollow: replicates.</p>'


def _axis(y: Callable[[float], float], low: float, high: float, name: str) -> str:
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step = next(s for s in (step, 2 * step, 5 * step) if (high - low) / s <= 6)
    tick, rows = math.ceil(low / step) * step, []
    while tick <= high:
        at = y(tick)
        rows.append(
            f'<line x1="55" x2="{WIDTH - 10}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e4e8ec"/>'
            f'<text x="50" y="{at + 4:.1f}" text-anchor="end" fill="#59636e">{tick:.3g}</text>'
        )
        tick += step
    return "".join(rows) + f'<text x="55" y="12" fill="#59636e">{html.escape(name)}</text>'


def _tree(state: State, block: int) -> str:
    rows = lines.tree_lines(state, block)
    if not rows:
        return "<p class=dim>no nodes</p>"
    shapes, at = [], {it.node: (20 + INDENT * depth, 18 + ROW * k) for k, (depth, it) in enumerate(rows)}
    for _, it in rows:
        x, y = at[it.node]
        parent = state.nodes[it.node].parent
        if parent in at:
            px, py = at[parent]
            shapes.append(f'<path d="M{px} {py + 7}V{y}H{x - 7}" fill="none" stroke="#afb8c1"/>')
        colour = _colour(state, it)
        label = html.escape(lines.node_line(state, 0, it))
        shapes.append(f'<circle cx="{x}" cy="{y}" r="6" fill="{colour}"/><text x="{x + 14}" y="{y + 4}">{label}</text>')
    width = max(WIDTH, max(x for x, _ in at.values()) + 620)
    return f'<svg viewBox="0 0 {width} {18 + ROW * len(rows)}" role="img">{"".join(shapes)}</svg>'


def _table(state: State) -> str:
    head = "<tr><th>#<th>node<th>parent<th>strategy<th>change<th>result<th>observation</tr>"
    rows = []
    for i, it in sorted(state.iterations.items()):
        node = state.nodes[it.node]
        parent = "root" if node.parent is None else str(node.parent)
        value = metric_text(it.metric(state.contract.primary.name)) if it.outcome == "ok" else str(it.outcome or "open")
        said = it.reflection.observation if it.reflection else ""
        change = describe(state.contract, it.proposal.mutation)
        cells = [str(node.id), parent, it.proposal.strategy, change, value, said]
        rows.append(f"<tr><td class=n>{i}" + "".join(f"<td>{html.escape(c)}" for c in cells) + "</tr>")
    return f"<table>{head}{''.join(rows)}</table>"


def _plots(paths: Paths, state: State) -> list[str]:
    name = state.contract.primary.name
    ranked = [s for b in range(1, state.block_of(max(state.last_iteration, 1)) + 1) for s in tree.scores(state, b)]
    known = [s for s in ranked if s.summary.mean is not None]
    rule = state.contract.primary
    known.sort(key=lambda s: -tree.reward(rule, s.summary.mean or 0.0))
    parts = []
    for score in known[:BEST_NODES]:
        summary = summarise(state, state.nodes[score.node], name)
        attempts = len(state.iterations[score.node].attempts)
        images = _images(paths.run(score.node, attempts))
        parts.append(f"<h3>Node {score.node}: {name} {summary.mean:.4f} (n={summary.n})</h3>{images}")
    return parts or ["<p class=dim>no results yet</p>"]


def _images(run: RunPaths) -> str:
    """Return the run's plots, of each kind the last, as embedded images."""
    last: dict[Path, Path] = {}
    for path in sorted(run.plots.rglob("*.png"), key=lambda p: (p.stat().st_mtime, p.name)):
        stem = path.stem.split("_")[0]
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= IMAGE_LIMIT:
            last[path.parent / stem] = path
    tags = []
    for path in last.values():
        data = base64.b64encode(path.read_bytes()).decode()
        shown = html.escape(str(path.relative_to(run.plots)))
        tags.append(f'<img alt="{shown}" title="{shown}" src="data:image/png;base64,{data}">')
    return "".join(tags)
