"""Render `memory.md`, the working memory, with the sections of the instruction; Emerging Observations stay last."""

from __future__ import annotations

from typing import Any

from orchestrator.core import configs, tree
from orchestrator.core.classify import verdict
from orchestrator.core.mutation import number
from orchestrator.core.state import Node, State
from orchestrator.core.stats import noise, summarise
from orchestrator.formats import entry
from orchestrator.formats.analysis import notes

NOTE_LINES = 60
"""Lines of people's notes that memory.md shows."""


def render(state: State) -> str:
    """Return the whole file, within the instruction's cap of lines."""
    block = state.block_of(max(state.last_iteration, 1))
    parts = [*_header(state), *_knowledge(state), *_previous(state, block), *_current(state, block)]
    tail = _emerging(state)
    room = state.contract.memory_cap_lines - len(tail) - 2
    if len(parts) > room:
        parts = [*parts[:room], "", "(cut here: the memory is capped; the full log is analysis.md)"]
    return "\n".join([*parts, *tail]) + "\n"


def _header(state: State) -> list[str]:
    lines = [f"# Working memory: {state.contract.title}", ""]
    for regime in state.regimes:
        lines += _preflight(regime.name, regime.preflight, [m.name for m in state.contract.metrics])
    kept = notes(state, "memory.md").strip("\n").splitlines()
    if len(kept) > NOTE_LINES:
        kept = [*kept[:NOTE_LINES], f"({len(kept) - NOTE_LINES} more lines: journal.jsonl, events `human`)"]
    return [*lines, *kept, ""] if kept else lines


def _preflight(name: str, found: dict[str, Any], metrics: list[str]) -> list[str]:
    def shown(section: str) -> str:
        values = found.get(section) or {}
        named = [f"{k} {_number(values[k])}" for k in metrics if k in values]
        return ", ".join(named) or "not measured"

    lines = [
        f"**Preflight, regime {name}** (measured before iteration 1; a plateau below the ceiling is not a law)",
        f"- oracle (true parameters): {shown('oracle')}",
        f"- null (untrained): {shown('null')}",
        f"- ceiling (data-limited): {shown('ceiling')}",
    ]
    if found.get("baselines"):
        lines.append(f"- baselines (fakeable): {shown('baselines')}")
    guard = found.get("guard") or {}
    lines.append(f"- data guard: {guard.get('sentence', 'not run')}")
    lines += [f"- warning: {w}" for w in found.get("warnings", [])]
    return [*lines, ""]


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "none" if value is None else str(value)
    return f"{value:.4g}"


def _knowledge(state: State) -> list[str]:
    contract, rows = state.contract, []
    for block in range(1, state.block_of(max(state.last_iteration, 1)) + 1):
        node = tree.best(state, block)
        if node is not None:
            rows.append(_best_row(state, block, node))
    labels = [rule.short if (rule := contract.key(k)) else k for k in _columns(state)]
    head = ["Blk", "Node", *labels, contract.primary.name, "n", "Finding"]
    return [
        "## Knowledge Base (accumulated across all blocks)",
        "",
        "### Best Configurations Found",
        "",
        _row(head),
        _row(["---"] * len(head)),
        *rows,
        "",
        "### Established Principles",
        "",
        f"(none yet: a principle needs {contract.principle_support} supporting iterations)",
        "",
        "### Open Questions",
        "",
        *(_questions(state) or ["(none yet)"]),
        "",
        "---",
        "",
    ]


def _columns(state: State) -> list[str]:
    return [k for k in state.contract.log_config if k not in configs.SEED_KEYS]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _best_row(state: State, block: int, node: Node) -> str:
    summary = summarise(state, node, state.contract.primary.name)
    said = state.iterations[node.id].reflection
    finding = said.observation if said is not None else "not judged yet"
    cells = [number(configs.get(node.config, k)) for k in _columns(state)]
    error = f" ± {summary.standard_error:.4f}" if summary.standard_error is not None else ""
    return _row([str(block), str(node.id), *cells, f"{summary.mean:.4f}{error}", str(summary.n), finding])


def _questions(state: State) -> list[str]:
    lines = []
    for it in state.done:
        if it.outcome != "ok":
            lines.append(f"- iter {it.proposal.iteration} ended {it.outcome}: {it.final.sentence if it.final else ''}")
    return [" ".join(line.split()) for line in lines[-10:]]


def _previous(state: State, block: int) -> list[str]:
    lines = [f"## Previous Block Summary (Block {block - 1})", ""]
    if block == 1:
        return [*lines, "(this is the first block)", "", "---", ""]
    node, name = tree.best(state, block - 1), state.contract.primary.name
    its = [it for it in state.done if it.block == block - 1]
    failed = sum(it.outcome != "ok" for it in its)
    lines.append(f"{len(its)} iterations, {len(tree.block_nodes(state, block - 1))} nodes, {failed} failed runs.")
    if node is not None:
        best = summarise(state, node, name)
        lines.append(f"Best node {node.id}: {name} {best.mean:.4f} (n={best.n}).")
    first = next((it for it in state.iterations.values() if it.block == block), None)
    if first is not None and first.proposal.base is not None:
        lines.append(f"This block starts from node {first.proposal.base}.")
    return [*lines, "", "---", ""]


def _current(state: State, block: int) -> list[str]:
    contract = state.contract
    focus = contract.block_focus[min(block, len(contract.block_focus)) - 1] if contract.block_focus else "all free keys"
    its = [it for _, it in sorted(state.iterations.items()) if it.block == block]
    hypothesis = its[-1].proposal.hypothesis if its else "the starting point is measured first"
    lines = [
        f"## Current Block (Block {block})",
        "",
        "### Block Info",
        "",
        f"Focus: {focus}",
        f"Iterations: {len(its)}/{contract.n_iter_block}",
        "",
        "### Hypothesis",
        "",
        hypothesis,
        "",
        "### Iterations This Block",
        "",
    ]
    for it in its:
        if it.final is not None:
            lines += ["#" + line if line.startswith("## ") else line for line in entry.render(state, it).splitlines()]
        else:
            lines.append(f"### Iter {it.proposal.iteration}: {'running' if it.in_flight else 'waiting'}")
        lines.append("")
    return lines


def _emerging(state: State) -> list[str]:
    said = state.turns[-1].emerging if state.turns else ()
    floor = noise(state, state.contract.primary.name)
    measured = "not measured yet" if floor.sd is None else f"{floor.sd:.4f} ({floor.degrees} d.o.f.)"
    counts: dict[str, int] = {}
    for it in state.done:
        name = verdict(state, it).lower()
        counts[name] = counts.get(name, 0) + 1
    tally = ", ".join(f"{n} {name}" for name, n in counts.items()) or "no finished runs"
    return [
        "### Emerging Observations",
        "",
        f"- Runs so far: {tally}. Noise floor of {state.contract.primary.name}: {measured}.",
        *(f"- {line}" for line in said),
    ]
