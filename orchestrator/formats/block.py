"""Render the end of a block: its summary in analysis.md, and the comparison of regimes in memory.md.

The table of blocks that run over the values of a key is `formats.block_table`'s.
"""

from __future__ import annotations

from orchestrator.core import block_keys, configs, edits, tree
from orchestrator.core.mutation import number
from orchestrator.core.records import Boundary, Config
from orchestrator.core.state import State
from orchestrator.core.stats import noise, summarise
from orchestrator.formats import code_edits
from orchestrator.formats.strategy_table import block_diff


def render(state: State, block: int) -> str:
    """Return the `## Block N` section of an ended block, ending with a newline."""
    said = state.boundaries[block]
    lines = [f"## Block {block}: summary", ""]
    regime = state.regime_name(block)
    draw = state.draw(block)
    lines += [f"Regime: {regime or 'the one of config.yaml'}, simulation seed {draw}", *said.summary]
    lines += [facts(state, block), _used(state, block), "", *_rules(state, block, said), ""]
    lines += [*config_edited(state, said), *_next(state, said)]
    return "\n".join(lines) + "\n"


def facts(state: State, block: int) -> str:
    """Return one line of counts and figures of a block, from records."""
    its = [it for it in state.iterations.values() if it.block == block and it.final is not None]
    name, best = state.contract.primary.name, tree.best(state, block)
    failed = sum(it.outcome != "ok" for it in its)
    text = (
        f"Figures: {len(its)} iterations, {len(tree.block_nodes(state, block))} nodes, {failed} runs without a result"
    )
    if best is not None:
        found = summarise(state, best, name)
        text += f"; best node {best.id}, {name} {found.mean:.4f} (n={found.n})"
    floor = noise(state, name, block)
    text += "; noise not measured" if floor.sd is None else f"; noise sd {floor.sd:.4f}"
    judged = [edits.judged(state, node) for node in edits.code_nodes(state, block)]
    return text + ("; code edits: " + ", ".join(_verdict(found) for found in judged) if judged else "")


def _verdict(found: edits.Judged) -> str:
    moved = "" if found.difference is None else f" {edits.shown(found.difference, '+')}"
    return f"node {found.node} {found.verdict}{moved}"


def _used(state: State, block: int) -> str:
    """Return how often each strategy was followed in a block."""
    counts: dict[str, int] = {}
    for _, it in sorted(state.iterations.items()):
        if it.block == block:
            counts[it.proposal.strategy] = counts.get(it.proposal.strategy, 0) + 1
    return "Strategies followed: " + ", ".join(f"{name} {n}" for name, n in counts.items())


def _rules(state: State, block: int, said: Boundary) -> list[str]:
    if not said.rules:
        return ["INSTRUCTIONS EDITED: none"]
    lines = ["INSTRUCTIONS EDITED:"]
    lines += [f"- {edit.op} {edit.strategy}: {edit.reason}" for edit in said.rules]
    diff = block_diff(state, block)
    return [*lines, "", "```diff", *diff.splitlines(), "```"] if diff else lines


def config_edited(state: State, said: Boundary) -> list[str]:
    """Return the line that says which keys change for the next block, and why; nothing when none does."""
    if not said.changes:
        return []
    values = block_keys.told(state.contract, {change.key: change.new for change in said.changes})
    reason = " ".join("".join(c if c.isprintable() else " " for c in said.changes_reason).split())
    return [f"CONFIG EDITED: Block {said.block + 1} {values} (reason: {reason})"]


def _next(state: State, said: Boundary) -> list[str]:
    where = f" in regime {said.regime}" if said.regime else ""
    return [f"Next block{where}: {said.focus}", f"Hypothesis: {said.hypothesis}"]


def comparison(state: State) -> list[str]:
    """Return one table for each group of regimes that differ in the contract's `compare` key (and budgets) alone."""
    key = state.contract.compare
    if key is None:
        return []
    groups: dict[str, dict[str, str]] = {}
    for regime in state.contract.regimes:
        if key in regime.values:
            kind = str(regime.values.get("simulation.connectivity_type", state.contract.system))
            groups.setdefault(kind, {})[regime.name] = number(regime.values[key])
    lines: list[str] = []
    for kind, members in groups.items():
        lines += ["", *_table(state, key.partition(".")[2], kind, members)]
    return lines


def _table(state: State, key: str, kind: str, members: dict[str, str]) -> list[str]:
    title = f"#### {kind}: {' against '.join(members.values())}"
    if not any(_seen(state, b) and state.regime_name(b) in members for b in range(1, state.block + 1)):
        return [title, "", "(no block has had these regimes yet)"]
    head = [key, *(f"{value} ({name})" for name, value in members.items())]
    columns = [_column(state, name) for name in members]
    rows = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in columns[0]:
        if any(column[row] for column in columns):
            rows.append("| " + " | ".join([row, *(column[row] for column in columns)]) + " |")
    return [title, "", *rows]


def _column(state: State, regime: str) -> dict[str, str]:
    """Return what is known of one regime, row by row."""
    contract, name = state.contract, state.contract.primary.name
    best = tree.best_in_regime(state, regime)
    blocks = [b for b in range(1, state.block + 1) if state.regime_name(b) == regime and _seen(state, b)]
    draw = state.draw(blocks[0]) if blocks else None
    ready = next((r for r in state.regimes if r.regime_name == regime and r.simulation_seed == draw), None)
    column = {"blocks": ", ".join(map(str, blocks)) or "none yet", "draw": "", "data allow": "", "modes (99 %)": ""}
    if ready is not None:
        column["draw"] = str(ready.simulation_seed)
        column["data allow"] = _text((ready.preflight.get("ceiling") or {}).get(name))
        column["modes (99 %)"] = _text((ready.preflight.get("activity") or {}).get("effective_rank_99"))
    first = state.iterations.get(state.first_of(blocks[0])) if blocks else None
    column["first run"] = _text(first.metric(name).value if first else None)
    column[f"best {name}"] = ""
    for metric in contract.metrics:
        if metric.name != name and metric.direction == "max":
            column[metric.name] = ""
    floor = noise(state, name, blocks[0]) if blocks else None
    column["noise sd"] = _text(floor.sd if floor else None)
    column["best config"] = ""
    if best is not None:
        found = summarise(state, best, name)
        error = f" ± {found.standard_error:.4f}" if found.standard_error is not None else ""
        column[f"best {name}"] = f"{found.mean:.4f}{error} (node {best.id}, n={found.n})"
        for metric in contract.metrics:
            if metric.name in column:
                column[metric.name] = _text(summarise(state, best, metric.name).mean)
        parts = (_differences(state, best.config), code_edits.carried(state, best.id))
        column["best config"] = ", ".join(part for part in parts if part)
    return column


def _seen(state: State, block: int) -> bool:
    return state.first_of(block) in state.iterations


def _differences(state: State, config: Config) -> str:
    assert state.opened is not None
    parts = []
    for rule in state.contract.keys:
        if rule.level == "free" and rule.key not in configs.SEED_KEYS:
            value = configs.get(config, rule.key)
            if value != configs.get(state.opened.start, rule.key):
                parts.append(f"{rule.short}={number(value)}")
    return ", ".join(parts) or "the start"


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
