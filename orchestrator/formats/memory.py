"""Render `memory.md`, the working memory, with the sections of the instruction; Emerging Observations stay last."""

from __future__ import annotations

from typing import Any

from orchestrator.core import block_keys, code_rules, configs, strategy, tree
from orchestrator.core.classify import verdict
from orchestrator.core.mutation import number
from orchestrator.core.state import Node, State
from orchestrator.core.stats import noise, summarise
from orchestrator.core.strategy_kinds import EDITS
from orchestrator.formats import block_table, code_edits, entry, pacing
from orchestrator.formats.analysis import notes
from orchestrator.formats.block import comparison, facts

NOTE_LINES = 60
"""Lines of people's notes that memory.md shows."""


def render(state: State) -> str:
    """Return the whole file, within the instruction's cap of lines."""
    block, cap = state.block_shown, state.contract.memory_cap_lines
    head = [*_header(state), *_knowledge(state), *_previous(state, block), *_current(state, block)]
    tail = _emerging(state)
    entries = _entries(state, block)
    room = cap - len(head) - len(tail)
    left_out = 0
    while entries and sum(map(len, entries)) + 2 > room:
        entries = entries[1:]
        left_out += 1
    if left_out:
        head += [f"(the first {left_out} of this block: analysis.md; this file has at most {cap} lines)", ""]
    lines = [*head, *(line for lines in entries for line in lines)]
    if len(lines) + len(tail) > cap:
        lines = [*lines[: cap - len(tail) - 2], "", "(cut here: the memory is capped; the full log is analysis.md)"]
    return "\n".join([*lines, *tail]) + "\n"


def _header(state: State) -> list[str]:
    lines = [f"# Working memory: {state.contract.title}", ""]
    draw, name = state.draw(state.block_shown), state.regime_name(state.block_shown)
    for regime in state.regimes:
        if regime.regime_name == name and regime.simulation_seed in (draw, None):
            lines += _preflight(regime.name, regime.preflight, [m.name for m in state.contract.metrics])
        elif regime.unfit:
            lines += [f"Draw set aside, {regime.name}: {regime.unfit}", ""]
    lines += _asked(state)
    kept = notes(state, "memory.md").strip("\n").splitlines()
    if len(kept) > NOTE_LINES:
        kept = [*kept[:NOTE_LINES], f"({len(kept) - NOTE_LINES} more lines: journal.jsonl, events `human`)"]
    return [*lines, *kept, ""] if kept else lines


def _asked(state: State) -> list[str]:
    """Return the user instructions in force, each with how it is honoured."""
    asked = state.contract.user_instructions
    if not asked:
        return []
    said = next((t.acknowledged for t in reversed(state.turns) if t.acknowledged), ())
    lines = ["**User instructions** (re-read before every turn; they win over frozen rules)"]
    for i, item in enumerate(asked):
        lines.append(f"- {item.text}: {said[i] if i < len(said) else 'not acknowledged yet'}")
    return [*lines, ""]


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
    for block in range(1, state.block_shown + 1):
        node = tree.best(state, block)
        if node is not None:
            rows.append(_best_row(state, block, node))
    labels = [rule.short if (rule := contract.key(k)) else k for k in _columns(state)]
    regimes = ["Regime"] if contract.regimes else []
    head = ["Blk", *regimes, "Node", *labels, contract.primary.name, "n", "Finding"]
    return [
        "## Knowledge Base (accumulated across all blocks)",
        "",
        "### Best Configurations Found",
        "",
        _row(head),
        _row(["---"] * len(head)),
        *rows,
        "",
        *block_table.render(state),
        *_edits(state),
        "### Established Principles",
        "",
        *_principles(state),
        "",
        "### Open Questions",
        "",
        *([*_open(state), *(f"- {text}" for text in state.questions), *_questions(state)] or ["(none yet)"]),
        "",
        "---",
        "",
    ]


def _edits(state: State) -> list[str]:
    """Return what was tried on the code; a small memory shows few."""
    rows = code_edits.table(state, max(3, min(code_edits.ROWS, state.contract.memory_cap_lines // 10)))
    return ["### Code Edits", "", *rows, ""] if rows else []


def _columns(state: State) -> list[str]:
    return [k for k in state.contract.log_config if k not in configs.SEED_KEYS]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _best_row(state: State, block: int, node: Node) -> str:
    summary = summarise(state, node, state.contract.primary.name)
    said = state.iterations[node.id].reflection
    finding = said.observation.replace("|", "\\|") if said is not None else "not judged yet"
    cells = [number(configs.get(node.config, k)) for k in _columns(state)]
    error = f" ± {summary.standard_error:.4f}" if summary.standard_error is not None else ""
    regimes = [state.regime_name(block)] if state.contract.regimes else []
    code = code_edits.carried(state, node.id)
    told = f"{node.id} ({code})" if code else str(node.id)
    return _row([str(block), *regimes, told, *cells, f"{summary.mean:.4f}{error}", str(summary.n), finding])


def _principles(state: State) -> list[str]:
    """Return the established principles, apart for each regime."""
    needed = state.contract.principle_support
    lines: list[str] = []
    for regime in dict.fromkeys(p.regime for p in state.principles):
        found = [p for p in state.principles if p.regime == regime and len(p.support) >= needed and not p.against]
        if found:
            lines += [f"**{regime}**"] if regime else []
            lines += [f"- {p.text} ({_iterations(p.support)})" for p in found]
    return lines or [f"(none yet: a principle needs {needed} supporting iterations and none against it)"]


def _open(state: State) -> list[str]:
    needed = state.contract.principle_support
    lines = []
    for p in state.principles:
        if p.against:
            where = f"[{p.regime}] " if p.regime else ""
            lines.append(f"- {where}{p.text}: for it {_iterations(p.support)}; against it {_iterations(p.against)}")
        elif len(p.support) < needed:
            where = f"[{p.regime}] " if p.regime else ""
            lines.append(f"- {where}{p.text} ({_iterations(p.support)}; {needed} are needed)")
    return lines


def _iterations(numbers: tuple[int, ...]) -> str:
    return "iter " + ", ".join(map(str, numbers)) if numbers else "none"


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
    said = state.boundaries.get(block - 1)
    lines += list(said.summary) if said is not None else []
    lines.append(facts(state, block - 1))
    return [*lines, "", "---", ""]


def _current(state: State, block: int) -> list[str]:
    contract = state.contract
    said = state.boundaries.get(block - 1)
    planned = contract.block_focus[min(block, len(contract.block_focus)) - 1] if contract.block_focus else ""
    its = [it for _, it in sorted(state.iterations.items()) if it.block == block]
    draw = state.draw(block)
    regime = f"Regime: {state.regime_name(block)}" + ("" if draw is None else f", simulation seed {draw}")
    best = tree.carried(state)
    carried = its[0].proposal.base if its else best.id if best else None
    extra = state.fillers.get(block, 0)
    more = f", and {extra} replicate(s) in idle slots" if extra else ""
    return [
        f"## Current Block (Block {block})",
        "",
        "### Block Info",
        "",
        *([regime] if contract.regimes else []),
        *_settings(state, block),
        f"Focus: {said.focus if said else planned or 'all free keys'}",
        f"Iterations: {len(its) - extra}/{state.n_iter_block}{more}",
        *([f"This block starts from node {carried}."] if carried is not None else []),
        *([f"{timed}."] if (timed := pacing.state_text(state)) else []),
        *_triggers(state),
        "",
        "### Hypothesis",
        "",
        *([state.hypotheses[block]] if block in state.hypotheses else [said.hypothesis] if said else []),
        its[-1].proposal.hypothesis if its else "the starting point is measured first",
        "",
        "### Iterations This Block",
        "",
    ]


def _settings(state: State, block: int) -> list[str]:
    """Return a line for each key of a block that changes between blocks only, and did, or that blocks run over."""
    values = block_keys.settings(state, block)
    return [f"{block_keys.name_of(state.contract, key)}: {number(value)}" for key, value in values.items()]


def _triggers(state: State) -> list[str]:
    """Return how often each row of the strategy table was followed, and the rows that hold now with what they saw."""
    if not state.strategies:
        return []
    followed = ", ".join(f"{name} {n}" for name, n in strategy.uses(state).items() if n)
    found = [t for t in strategy.active(state) if t.group != "default"]
    lines = [f"Strategy table: {len(state.strategies)} rows; followed so far: {followed or 'none'}"]
    off = " (not followed: code edits are off)" if code_rules.off(state) else ""
    return [*lines, *(f"- holds now: {t.strategy} ({t.evidence}){off if t.kind in EDITS else ''}" for t in found)]


def _entries(state: State, block: int) -> list[list[str]]:
    """Return the block's entries, oldest first, as lines."""
    entries, idle = [], ""
    for _, it in sorted(state.iterations.items()):
        if it.block != block:
            continue
        if it.final is not None:
            text = entry.render(state, it).splitlines()
            said = next((line for line in text if line.startswith("Idle keys: ")), "")
            if said and said == idle:
                text[text.index(said)] = "Idle keys: as in the entry before"
            idle = said
            lines = ["#" + line if line.startswith("## ") else line for line in text]
        else:
            lines = [f"### Iter {it.proposal.iteration}: {'running' if it.in_flight else 'waiting'}"]
        entries.append([*lines, ""])
    return entries


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
        *comparison(state),
    ]
