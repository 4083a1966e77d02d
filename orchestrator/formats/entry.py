"""Render one iteration's entry in the log form of the instruction. Facts come from records, prose from the turn."""

from __future__ import annotations

from orchestrator.core import configs, diagnosis
from orchestrator.core.classify import verdict
from orchestrator.core.contract import Contract
from orchestrator.core.events import RunEnded
from orchestrator.core.mutation import describe, number
from orchestrator.core.records import Config, Metric
from orchestrator.core.state import Iteration, State
from orchestrator.formats import code_edits, pacing


def metric_text(metric: Metric) -> str:
    """Return a metric as entries print it: four decimals, small or large numbers in scientific form, or the reason."""
    if metric.value is None:
        return "N/A" if metric.reason == "missing" else f"N/A ({metric.reason})"
    if metric.value == 0 or 1e-3 <= abs(metric.value) < 1e5:
        whole = metric.value == int(metric.value) and abs(metric.value) >= 2
        return str(int(metric.value)) if whole else f"{metric.value:.4f}"
    return f"{metric.value:.4e}"


def config_text(contract: Contract, config: Config) -> str:
    """Return the `Config:` line's content: the instruction's keys in its order."""
    parts = []
    for key in contract.log_config:
        rule = contract.key(key)
        label = "seed" if key == "training.seed" else rule.short if rule else key
        parts.append(f"{label}={number(configs.get(config, key))}")
    return ", ".join(parts)


def node_text(state: State, it: Iteration) -> str:
    """Return the `Node:` line's content; a replicate names its node and its count."""
    node = state.nodes[it.node]
    parent = "root" if node.parent is None else node.parent
    text = f"id={node.id}, parent={parent}"
    if it.proposal.mutation.kind == "replicate":
        text += f" (replicate {node.iterations.index(it.proposal.iteration) + 1})"
        if it.proposal.simulation_seed != state.draw(node.block):
            text += f", on draw {it.proposal.simulation_seed}: another system, not in the node's mean"
    inherited = it.proposal.base
    if node.parent is None and inherited is not None and it.proposal.mutation.kind == "baseline":
        text += f" (inherits the config of node {inherited}, block {state.nodes[inherited].block})"
    return text


def slot_text(it: Iteration) -> str:
    """Return the `Slot:` line's content: the training time is a wall time, so it says what shared the machine."""
    proposal, final = it.proposal, it.final
    parts = [f"{proposal.slot} ({proposal.role}{', fills an idle slot' if proposal.filler else ''})"]
    if it.attempts and it.attempts[-1].device:
        parts.append(f"GPU {it.attempts[-1].device}")
    if final is not None and final.in_flight is not None:
        parts.append(f"{final.in_flight:.1f} runs in flight")
    return ", ".join(parts)


def render(state: State, it: Iteration) -> str:
    """Return the entry of a finished iteration, ending with a newline."""
    contract, proposal, final = it.rules or state.contract, it.proposal, it.final
    assert final is not None
    config, edited = state.config_of(proposal), proposal.mutation.code is not None
    unchanged = f"unchanged from node {proposal.parent}: " if edited else ""
    lines = [
        f"## Iter {proposal.iteration}: {verdict(state, it, contract).lower()}",
        f"Node: {node_text(state, it)}",
        f"Mode/Strategy: {proposal.strategy}",
        *([f"Slot: {slot_text(it)}"] if proposal.role is not None else []),
        *([f"Evidence: {proposal.evidence}"] if proposal.evidence else []),
        f"Config: {unchanged}{config_text(contract, config)}, simulation_seed={proposal.simulation_seed}",
        *code_edits.block(proposal),
        f"Metrics: {_labelled(it, contract.log_metrics)}",
        *([f"Time: {timed}"] if (timed := pacing.entry_text(state, it, contract)) else []),
        *code_edits.verdict_lines(state, it),
    ]
    if contract.log_activity:
        lines.append(f"Activity: {_labelled(it, contract.log_activity)}")
    said = diagnosis.line(contract, it)
    if said:
        lines.append(f"Degeneracy: {said}")
    lines += [f"Marked: {mark}" for mark in final.marks]
    instead = state.turns[it.turn - 1].instead
    if instead:
        lines.append(f"Marked: proposed by the {state.turns[it.turn - 1].scientist} scientist: {instead}")
    if final.outcome != "ok":
        lines.append(f"Outcome: {final.outcome}: {' '.join(final.sentence.split())}")
    idle = idle_text(contract, final)
    if idle:
        lines.append(f"Idle keys: {idle}")
    lines += [
        f"Mutation: {describe(contract, proposal.mutation)}",
        f"Parent rule: {proposal.parent_rule}",
        *([] if edited else [f"Hypothesis: {proposal.hypothesis}"]),  # of an edit it stands in its block
    ]
    if it.reflection and it.reflection.visual:
        seen = (f"{v.label}=[{v.text}] ({v.plot})" for v in it.reflection.visual)
        lines.append(f"Visual: {', '.join(seen)}")
    if it.reflection:
        nxt = "root" if it.reflection.next_parent is None else it.reflection.next_parent
        lines += [f"Observation: {it.reflection.observation}", f"Next: parent={nxt}"]
    else:
        lines.append("Observation: (not judged yet)")
    return "\n".join(lines) + "\n"


def idle_text(contract: Contract, ended: RunEnded) -> str:
    """Return the free keys that could not act in a run, by their short names, grouped by reason; "" for none."""
    groups: dict[str, list[str]] = {}
    for key in sorted(ended.keys_idle):
        rule = contract.key(key)
        if rule is not None and rule.level == "free":
            groups.setdefault(ended.keys_idle[key], []).append(rule.short)
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in groups.items())


def _labelled(it: Iteration, pairs: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{label}={metric_text(it.metric(name))}" for label, name in pairs)
