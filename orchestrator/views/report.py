"""`make report`: one self-contained report.html, made from the journal and the run folders; no server, no script.

The primary metric over the iterations with replicates, blocks and regimes; the best against the first run; each node's
change against its parent; code edits with their verdicts; per block its tree, strategies with evidence, plots of its
best nodes and its memory; how well the slots were used; what the language model cost; failed runs with reasons; the
preflight; confirmations.
Everything that a run, a person or a scientist wrote is escaped.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.core import tree
from orchestrator.core.state import Node, State
from orchestrator.core.stats import noise, summarise
from orchestrator.core.usage import usage
from orchestrator.engine.confirm import read_tables
from orchestrator.engine.sealing import state_of
from orchestrator.engine.snapshots import best_run
from orchestrator.formats import memory
from orchestrator.formats.block import config_edited
from orchestrator.launch.folder import read_file
from orchestrator.paths import Paths
from orchestrator.store import atomic, journal
from orchestrator.vcs import code
from orchestrator.views import lines, report_costs, report_edits, report_slots, report_tables
from orchestrator.views.report_html import STYLE, Images, folded, text
from orchestrator.views.report_svg import block_tree, chart

BEST_NODES = 2
"""Nodes of a block whose plots are shown."""
MEMORY_LIMIT = 2**20
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser itself refuses whatever the page would fetch or run."""


def write(paths: Paths) -> Path:
    """Write report.html into the output folder and return its path.

    Raises:
        UserError: nothing has run there yet.
    """
    target = paths.out / "report.html"
    atomic.write_text(target, render(paths, state_of(paths), lambda a, b: code.difference(paths.out, a, b)))
    return target


def render(paths: Paths, state: State, diff: report_edits.Diff | None = None) -> str:
    """Return the whole page; without `diff` a code edit has the command that shows its text, not the text."""
    title = text(f"{paths.source.name}: {state.contract.title}")
    images = Images()
    blocks = range(1, state.block_of(max(state.last_iteration, 1)) + 1)
    confirmed = "".join(
        f"<h3>{text(stamp)}</h3><pre class=flat>{text(table)}</pre>" for stamp, table in read_tables(paths)
    )
    sections = [
        ("metric", f"{state.contract.primary.name} over the iterations", chart(state)),
        ("best", "The best against the first run", report_tables.best_against_start(state)),
        ("confirmed", "Confirmations on fresh seeds", confirmed or _no_confirmation(paths)),
        *((f"block-{b}", _block_title(state, b), _block(paths, state, b, images)) for b in blocks),
        ("changes", "Each node against its parent", report_tables.changes(state)),
        ("edits", "Code edits", report_edits.section(state, paths.out, diff)),
        ("slots", "Slots", report_slots.section(usage(journal.read(paths.journal)))),
        ("costs", "Language model", report_costs.section(state)),
        ("failed", "Failed runs", report_tables.failures(state)),
        ("preflight", "Preflight", report_tables.preflight(state)),
        ("memory", "Working memory", f"<pre>{text(memory.render(state))}</pre>"),
    ]
    links = "".join(f'<a href="#{anchor}">{text(heading)}</a> ' for anchor, heading, _ in sections)
    said = (lines.best_line(state), *lines.other_bests(state), _counts(state))
    parts = [
        f"<h1>{title}</h1><p>{text(state.contract.goal)}</p>",
        f"<p>{'<br>'.join(map(text, said))}</p><nav>{links}</nav>",
        *(f'<h2 id="{anchor}">{text(heading)}</h2>{body}' for anchor, heading, body in sections),
    ]
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{text(POLICY)}">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title><style>{STYLE}</style>'
    )
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


def _no_confirmation(paths: Paths) -> str:
    told = f"none yet: `make confirm EXP={paths.source.name}` trains the best again on seeds that nothing was chosen by"
    return f"<p class=dim>{text(told)}</p>"


def _block_title(state: State, block: int) -> str:
    label = lines.block_label(state, block)
    return label[0].upper() + label[1:]


def _block(paths: Paths, state: State, block: int, images: Images) -> str:
    parts = [_purpose(state, block), block_tree(state, block), report_tables.iterations(state, block)]
    parts += [_node(paths, state, node, images) for node in _leaders(state, block)]
    said = state.boundaries.get(block)
    if said is not None:
        rules = [f"{edit.op} {edit.strategy}: {edit.reason}" for edit in said.rules]
        items = "".join(f"<li>{text(item)}</li>" for item in (*said.summary, *rules))
        parts.append(f"<h3>What block {block} showed</h3><ul>{items}</ul>")
    kept = _snapshot(paths, block)
    if kept is not None:
        parts.append(folded(f"Memory at the end of block {block}", f"<pre>{text(kept)}</pre>"))
    return "".join(parts)


def _purpose(state: State, block: int) -> str:
    before = state.boundaries.get(block - 1)
    if before is None:
        return ""
    changed = "".join(f"{text(line)}<br>" for line in config_edited(state, before))
    return f"<p>{changed}Focus: {text(before.focus)}<br><span class=dim>{text(before.hypothesis)}</span></p>"


def _snapshot(paths: Paths, block: int) -> str | None:
    """Return the memory as it was at the end of a block, or None when there is no snapshot."""
    try:
        return read_file(paths.block(block) / "memory.md", MEMORY_LIMIT).decode(errors="replace")
    except OSError:
        return None


def _leaders(state: State, block: int) -> list[Node]:
    """Return the best nodes of a block, best first: the one that the engine calls best, then by the mean."""
    rule, first = state.contract.primary, tree.best(state, block)
    known = [s for s in tree.scores(state, block) if s.summary.mean is not None]
    known.sort(key=lambda s: (first is None or s.node != first.id, -tree.reward(rule, s.summary.mean or 0.0)))
    return [state.nodes[score.node] for score in known[:BEST_NODES]]


def _node(paths: Paths, state: State, node: Node, images: Images) -> str:
    name = state.contract.primary.name
    found, run = summarise(state, node, name), best_run(paths, state, node)
    error = f" ± {found.standard_error:.4f}" if found.standard_error is not None else ""
    title = f"Plots of node {node.id}: {name} {found.mean:.4f}{error} (n={found.n}), run {run.root.name}"
    drawn = images.of(run) or "<p class=dim>no plots</p>"
    leader = tree.best(state, node.block)
    return folded(title, drawn, shown=leader is not None and leader.id == node.id)
