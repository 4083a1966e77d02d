"""Tables of report.html: what changed, what came out of it and why, what failed, what the data allow."""

from __future__ import annotations

from typing import Any

from orchestrator.core import configs, lineage, tree
from orchestrator.core.classify import verdict
from orchestrator.core.mutation import describe, number
from orchestrator.core.records import Config
from orchestrator.core.state import Iteration, Node, State
from orchestrator.core.stats import noise, summarise
from orchestrator.formats import pacing
from orchestrator.formats.entry import metric_text
from orchestrator.views import lines
from orchestrator.views.report_html import kept, right, table, text
from orchestrator.views.report_svg import css_class

PREFLIGHT = ("oracle", "null", "ceiling", "baselines")


def differences(old: Config, new: Config) -> list[tuple[str, Any, Any]]:
    """Return (`section.name`, old, new) of the keys that differ, seeds and the `claude` section left out.

    A key that one of the two lacks has the value None there.
    """
    found = []
    for section in sorted({*old, *new} - {"claude"}):
        before, after = old.get(section, {}), new.get(section, {})
        for name in sorted({*before, *after}):
            key = f"{section}.{name}"
            if key not in configs.SEED_KEYS and before.get(name) != after.get(name):
                found.append((key, before.get(name), after.get(name)))
    return found


def regime_names(state: State) -> list[str]:
    """Return the regimes that have run, in the order of their blocks; [""] when none is declared."""
    last = state.block_of(max(state.last_iteration, 1))
    return list(dict.fromkeys(state.regime_name(block) for block in range(1, last + 1)))


def best_against_start(state: State) -> str:
    """Return, for each regime, the best node's values beside those of the regime's first run."""
    parts = []
    for regime in regime_names(state):
        node = tree.best_in_regime(state, regime)
        if node is None or state.opened is None:
            continue
        block = next(b for b in range(1, state.block + 1) if state.regime_name(b) == regime)
        rows = [
            [text(key), right(number(old)), right(number(new))]
            for key, old, new in differences(state.nodes[state.first_of(block)].config, node.config)
        ]
        rows += _code_rows(state, state.first_of(block), node.id)
        parts.append(f"<h3>{text(_best_title(state, node, regime, block))}</h3>")
        parts.append(table(("key", "first run", "best"), rows, "the best is the first run itself"))
    return "".join(parts) or "<p class=dim>no results yet</p>"


def _code_rows(state: State, first: int, best: int) -> list[list[str]]:
    """Return a row for each code edit that the best node has and the first run has not."""
    before = lineage.code_path(state, first)
    rows = []
    for proposal in lineage.code_path(state, best):
        if proposal not in before:
            told = describe(state.contract, proposal.mutation)
            rows.append([text("code"), right(""), right(f"{told} (iteration {proposal.iteration})")])
    return rows


def _best_title(state: State, node: Node, regime: str, block: int) -> str:
    name = state.contract.primary.name
    found, first = summarise(state, node, name), state.iterations[state.first_of(block)].metric(name)
    error = f" ± {found.standard_error:.4f}" if found.standard_error is not None else ""
    title = f"{f'Regime {regime}: ' if regime else ''}node {node.id}, {name} {found.mean:.4f}{error} (n={found.n})"
    title += f", first run {metric_text(first)}"
    floor = noise(state, name, block)
    sd = floor.sd
    if first.value is not None and found.mean is not None and sd:
        rule = state.contract.primary
        gain = tree.reward(rule, found.mean) - tree.reward(rule, first.value)
        title += f": {gain / sd:+.2g} noise standard deviations ({floor.degrees} d.o.f.)"
    return title


def changes(state: State) -> str:
    """Return each node's change against what it was made from, with what the change did to the primary metric."""
    rows, name = [], state.contract.primary.name
    for node_id, node in sorted(state.nodes.items()):
        proposal = state.iterations[node_id].proposal
        source = node.parent if node.parent is not None else proposal.base
        if source is None:
            base = state.base_config(None, node.block)
            label = "start"
        else:
            base = state.nodes[source].config
            label = f"node {source}" + ("" if node.parent is not None else " (carried over)")
        told = [f"{key}: {number(old)} → {number(new)}" for key, old, new in differences(base, node.config)]
        if proposal.mutation.code is not None:
            told.append(describe(state.contract, proposal.mutation))
        elif source is not None and state.nodes[source].code != node.code:
            told.append(f"code: {state.nodes[source].code[:12]} → {node.code[:12]}")
        after = summarise(state, node, name)
        comparable = node.parent is not None
        before = summarise(state, state.nodes[source], name).mean if comparable and source is not None else None
        gain = f"{after.mean - before:+.4f}" if after.mean is not None and before is not None else ""
        error = f" ± {after.standard_error:.4f}" if after.standard_error is not None else ""
        mean = f"{after.mean:.4f}{error}" if after.mean is not None else "n/a"
        changed = "<br>".join(map(text, told)) or "nothing"
        rows.append([right(node_id), text(label), changed, right(mean), right(after.n), right(gain)])
    return table(("node", "against", "change", f"mean {name}", "runs", "gain on parent"), rows, "no nodes yet")


def iterations(state: State, block: int) -> str:
    """Return the block's iterations: strategy with its evidence, change, result, hypothesis and observation."""
    rows = []
    for i, it in sorted(state.iterations.items()):
        if it.block != block:
            continue
        node, proposal = state.nodes[it.node], it.proposal
        parent = "root" if node.parent is None else str(node.parent)
        evidence = f"<small>{text(proposal.evidence)}</small>" if proposal.evidence else ""
        seen = it.reflection.observation if it.reflection else "not judged yet"
        rows.append(
            [
                right(i),
                right(f"{node.id} ← {parent}"),
                f"{text(proposal.strategy)}{evidence}<small>{text(proposal.parent_rule)}</small>",
                mutated(state, it),
                _result(state, it),
                f"<small>{text(proposal.hypothesis)}</small>{text(seen)}",
            ]
        )
    head = ("#", "node", "strategy and evidence", "change", state.contract.primary.name, "hypothesis, observation")
    return table(head, rows, "no iterations yet")


def mutated(state: State, it: Iteration) -> str:
    """Return an iteration's mutation: config changes one a line, a code edit as it is told."""
    told = describe(state.contract, it.proposal.mutation)
    return text(told) if it.proposal.mutation.code is not None else kept(told)


def _result(state: State, it: Iteration) -> str:
    colour = css_class(state, it)
    if it.final is None:
        return f'<td class="{colour}">{"running" if it.in_flight else "waiting"}</td>'
    if it.final.outcome != "ok":
        return f'<td class="{colour}">{text(it.final.outcome)}</td>'
    marks = "".join(f"<small>marked: {text(mark)}</small>" for mark in it.final.marks)
    value = metric_text(it.metric(state.contract.primary.name))
    timed = pacing.entry_text(state, it)
    marks = (f"<small>{text(timed)}</small>" if timed else "") + marks
    return f'<td class="{colour}">{text(value)} {text(verdict(state, it).lower())}{marks}</td>'


def failures(state: State) -> str:
    """Return every attempt that did not end well, with its reason, then refused turns and alarms."""
    rows = []
    for i, it in sorted(state.iterations.items()):
        for attempt in it.attempts:
            ended = attempt.ended
            if ended is None or ended.outcome == "ok":
                continue
            fate = "decided" if it.final is ended else "run again"
            what = f"{text(ended.outcome)}<small>{fate}</small>"
            cells = [right(f"{i}-{attempt.number}"), what, text(ended.sentence or ended.cause), mutated(state, it)]
            rows.append([*cells, right(lines.duration(ended.seconds))])
    parts = [table(("run", "outcome", "reason", "change", "time"), rows, "no run failed")]
    if state.refusals:
        said = [[right(r.turn), text(r.scientist), text(r.reason)] for r in state.refusals]
        parts += ["<h3>Refused turns</h3>", table(("turn", "scientist", "reason"), said)]
    if state.alarms:
        said = [[right(a.iteration), text(a.kind), text(a.sentence)] for a in state.alarms]
        parts += ["<h3>Alarms</h3>", table(("after iteration", "kind", "what"), said)]
    return "".join(parts)


def preflight(state: State) -> str:
    """Return what was measured of each regime's data before they were explored."""
    parts = []
    for ready in state.regimes:
        found = ready.preflight
        measured = [part for part in PREFLIGHT if found.get(part)]
        names = [m.name for m in state.contract.metrics if any(m.name in found[part] for part in measured)]
        rows = [[text(n), *(right(lines.metric_or_none(found[part].get(n))) for part in measured)] for n in names]
        told = [str((found.get("guard") or {}).get("sentence", ""))]
        told += [f"not explored: {ready.unfit}"] if ready.unfit else []
        told += [f"warning: {warning}" for warning in found.get("warnings") or []]
        parts.append(f"<h3>{text(ready.name)}</h3>")
        parts.append(table(("metric", *measured), rows, "no preflight (a trainer of one's own)"))
        parts += [f"<p class=dim>{text(sentence)}</p>" for sentence in told if sentence]
    note = (
        "<p class=dim>Oracle: the true parameters. Null: an untrained model. Ceiling: what the data allow. Baselines: "
        "tricks that recover nothing. A plateau below the ceiling is not a law.</p>"
    )
    return note + "".join(parts) if parts else "<p class=dim>not measured yet</p>"
