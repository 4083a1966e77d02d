"""The table of blocks in memory.md: one row a block, filled from records.

It is drawn where blocks run over a key's values; and where the instruction's memory skeleton has a "Comparison Table"
and nothing is compared: then with the best node's free keys that the log names.
"""

from __future__ import annotations

from orchestrator.core import block_keys, configs, tree
from orchestrator.core.contract import KeyRule
from orchestrator.core.mutation import number
from orchestrator.core.state import Node, State
from orchestrator.core.stats import summarise

TIME = "training_time_min"
"""Metric of every trainer of ours: what a block's value costs."""


def heading(state: State, rule: KeyRule) -> str:
    """Return the table's heading: the instruction's, else the key's words."""
    words = block_keys.name_of(state.contract, rule.key).rpartition(".")[2].replace("_", " ").title()
    return state.contract.comparison_heading or f"{words} Comparison Table"


def render(state: State) -> list[str]:
    """Return the table with its heading; nothing where none is asked for."""
    rule = block_keys.compared(state.contract)
    if rule is None:
        return _plain(state)
    contract, optimal = state.contract, _optimal(state)
    ranks, others = _activity(state), _metrics(state)
    head = ["Block", *(["Regime"] if contract.regimes else []), block_keys.name_of(contract, rule.key)]
    head += [label for label, _ in ranks]
    head += [f"Best {contract.primary.name}", *(f"Optimal {k.short}" for k in optimal), *others, "Key finding"]
    rows = []
    for block in range(1, state.block_shown + 1):
        best = tree.best(state, block)
        cells = [str(block), *([state.regime_name(block)] if contract.regimes else []), _value(state, rule, block)]
        cells += [_rank(state, block, best, metric) for _, metric in ranks]
        cells.append(_best(state, best))
        cells += [number(configs.get(best.config, k.key)) if best else "-" for k in optimal]
        cells += [_mean(state, best, name) for name in others]
        rows.append([*cells, _finding(state, block)])
    return _table(heading(state, rule), head, rows)


def _plain(state: State) -> list[str]:
    """Return the table of blocks that differ in nothing but what was found: nothing where no heading asks for it."""
    contract = state.contract
    if contract.compare is not None or not contract.comparison_heading:
        return []
    found = (contract.key(key) for key in contract.log_config if key not in configs.SEED_KEYS)
    keys = [rule for rule in found if rule is not None and rule.level == "free"]
    others = _metrics(state, ("max", "target"))
    head = ["Block", *(["Regime"] if contract.regimes else []), *(rule.short for rule in keys)]
    head += [f"Best {contract.primary.name}", *others, "Key finding"]
    rows = []
    for block in range(1, state.block_shown + 1):
        best = tree.best(state, block)
        cells = [str(block), *([state.regime_name(block)] if contract.regimes else [])]
        cells += [number(configs.get(best.config, rule.key)) if best else "-" for rule in keys]
        cells += [_best(state, best), *(_mean(state, best, name) for name in others), _finding(state, block)]
        rows.append(cells)
    return _table(contract.comparison_heading, head, rows)


def _table(title: str, head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"### {title}", "", _row(head), _row(["---"] * len(head)), *map(_row, rows), ""]


def _finding(state: State, block: int) -> str:
    said = state.boundaries.get(block)
    return said.summary[0] if said is not None else "in progress"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value(state: State, rule: KeyRule, block: int) -> str:
    """Return a block's value, with the other keys that are not at their start's."""
    values = block_keys.settings(state, block)
    own = number(values.pop(rule.key))
    return own + (f" ({block_keys.told(state.contract, values)})" if values else "")


def _activity(state: State) -> list[tuple[str, str]]:
    """Return (label, metric) of the log's activity line that say how hard the data are: the ranks, else the first."""
    labelled = list(state.contract.log_activity)
    return [pair for pair in labelled if "rank" in pair[0].lower()] or labelled[:1]


def _metrics(state: State, ways: tuple[str, ...] = ("max",)) -> list[str]:
    """Return the other metrics of the log that should be large (or go another of some ways), and the training time."""
    contract = state.contract
    rules = {m.name: m for m in contract.metrics}
    logged = (name for _, name in contract.log_metrics if name != contract.primary.name)
    large = [name for name in logged if name in rules and rules[name].direction in ways and name != TIME]
    return [*dict.fromkeys(large), TIME]


def _optimal(state: State) -> list[KeyRule]:
    found = (state.contract.key(key) for key in state.contract.log_config if key not in configs.SEED_KEYS)
    return [k for k in found if k is not None and k.level == "free" and k.type in ("int", "float")]


def _rank(state: State, block: int, best: Node | None, metric: str) -> str:
    """Return a figure of the data: of the block's best node, else of a run on the same draw, else of the preflight."""
    found = summarise(state, best, metric).mean if best is not None else None
    name, draw = state.regime_name(block), state.draw(block)
    if found is None:
        same = [
            it
            for it in state.done
            if state.regime_name(it.block) == name and draw in (it.proposal.simulation_seed, None)
        ]
        values = (it.metric(metric).value for it in sorted(same, key=lambda it: it.block != block))
        found = next((value for value in values if value is not None), None)
    if found is None:
        ready = (r for r in state.regimes if r.regime_name == name and r.simulation_seed in (draw, None))
        measured = ((r.preflight.get("activity") or {}).get(metric) for r in ready)
        found = next((v for v in measured if isinstance(v, int | float) and not isinstance(v, bool)), None)
    return "-" if found is None else f"{found:.4g}"


def _best(state: State, best: Node | None) -> str:
    if best is None:
        return "-"
    found = summarise(state, best, state.contract.primary.name)
    error = f" ± {found.standard_error:.4f}" if found.standard_error is not None else ""
    return f"{found.mean:.4f}{error} (node {best.id}, n={found.n})"


def _mean(state: State, best: Node | None, metric: str) -> str:
    found = summarise(state, best, metric).mean if best is not None else None
    return "-" if found is None else f"{found:.4g}"
