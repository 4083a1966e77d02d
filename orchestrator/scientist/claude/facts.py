"""What Claude is told in a turn, compiled from records: the volatile part of the prompt."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core import code_rules, configs, edits, pace, slots, strategy, strategy_kinds, tree
from orchestrator.core.classify import verdict
from orchestrator.core.contract import Contract
from orchestrator.core.diagnosis import line as diagnosis_line
from orchestrator.core.mutation import describe, number, steps_text
from orchestrator.core.records import Role
from orchestrator.core.scene import Scene
from orchestrator.core.state import Iteration, Node, State
from orchestrator.core.stats import noise, summarise
from orchestrator.formats import code_edits, code_permission, memory, pacing, ucb_scores
from orchestrator.formats.entry import idle_text, metric_text
from orchestrator.scientist.claude import block_changes
from orchestrator.scientist.claude.plans import Plans, bounds
from orchestrator.scientist.desk import Desk

NOTE_CHARACTERS = 6_000
"""Of people's notes that every prompt shows."""
TIMED = 4
"""Nodes of the highest UCB whose training time is estimated."""
HISTORY_ROWS = 60
"""Latest iterations of the block that the history table shows; older ones are pooled in the tree."""
STEPS = (
    " Steps are the instruction's mutation magnitudes: a change is one of them, unless a strategy row or a user "
    "instruction asks for another size; then the hypothesis says why."
)
"""Said where keys have steps."""
_MEANING: dict[Role | None, str] = {
    "exploit-best": "a step from the node with the highest UCB",
    "exploit-second": "a step from the second-highest UCB",
    "explore": "a node or a key that was looked at little",
    "principle-test": "a run that could contradict a principle",
    "control": "the best node unchanged, at another training seed",
}


def render(state: State, plans: Plans, plots: dict[int, tuple[str, ...]]) -> str:
    """Return the facts of a turn as markdown; `plots` are the names of the plots of each iteration to be judged."""
    sections = (
        _task(state, plans),
        ["## memory.md", "", memory.render(state).replace("\n#", "\n###").replace("# Working", "### Working", 1)],
        _notes(state),
        _finished(state, plots),
        _edits(state),
        _candidates(state, plans.block),
        _triggers(state, plans.block),
        _parameters(state, plans),
        _time(state, plans.block),
        *([between] if (between := block_changes.section(state)) else []),
        _history(state, plans.block),
        _principles(state),
    )
    return "\n".join(line for section in sections for line in [*section, ""]).rstrip() + "\n"


def _task(state: State, plans: Plans) -> list[str]:
    turn, due = len(state.turns) + 1, [it.proposal.iteration for it in state.unreflected]
    lines = [f"# Turn {turn}, block {plans.block} of {state.n_iter_block} iterations", ""]
    first = state.last_iteration + 1 == state.first_of(plans.block)
    nothing = "Nothing is to be judged" + (" yet: this is the start of a block." if first else " in this turn.")
    lines.append(f"Judge: {_listed(due)}." if due else nothing)
    if state.closing is not None:
        regimes = ", ".join(r.name for r in state.contract.regimes) or 'none, so regime is ""'
        lines += [
            f"Block {state.closing} is complete. This turn ends it: edit_strategy_row (compulsory, at least once), "
            f"end_block, then submit with observations and no proposals. Declared regimes: {regimes}; had: "
            + (", ".join(dict.fromkeys(state.regime_name(b) for b in range(1, state.closing + 1))) or "none")
            + ".",
        ]
    for slot in plans.slots:
        role = slots.role(state, slot)
        meaning = f", role {role}: {_MEANING[role]}" if role else ""
        iteration = plans.iteration_of(slot)
        place = f"{iteration - state.first_of(plans.block) + 1} of {state.n_iter_block} in its block"
        lines.append(
            f"Propose: iteration {iteration} ({place}) in slot {slot}{meaning}.{_due(state, plans, iteration)}"
        )
    if plans.slots and plans.iteration_of(plans.slots[0]) == state.first_of(plans.block):
        lines.append(
            "The block's first run is its baseline: choose_parent root without a change, unless it has a spread."
        )
        lines += [f"Initial spread, run {i}: {rule.text}" for i, rule in enumerate(state.contract.spread)]
    flying = state.open_iterations
    lines += [f"In flight: iteration {it.proposal.iteration}, {_what(state, it)}." for it in flying]
    if not plans.slots and state.closing is None:
        lines.append("No slot is to be filled in this turn: submit observations with no proposals.")
    return lines


def _due(state: State, plans: Plans, iteration: int) -> str:
    """Return what the rule `replicate_every` asks of an iteration, "" for nothing."""
    every, best = state.contract.replicate_every, tree.best(state, plans.block)
    if not every or iteration % every or best is None:
        return ""
    return f" Due here: a replicate of the best node, {best.id} (every {every} iterations), so that noise is measured."


def _listed(numbers: list[int]) -> str:
    return f"iteration{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def _what(state: State, it: Iteration) -> str:
    parent = "root" if it.proposal.parent is None else it.proposal.parent
    return f"{describe(state.contract, it.proposal.mutation)} from parent {parent}"


def _notes(state: State) -> list[str]:
    """Return what people wrote into notes.md, as it was last seen."""
    said = [note.text for note in state.notes if note.what == "notes.md"]
    if not said:
        return []
    cut = "\n(cut here; view_file notes.md has the rest)" if len(said[-1]) > NOTE_CHARACTERS else ""
    return [
        "## Notes from people (notes.md)",
        "",
        said[-1][:NOTE_CHARACTERS].replace("\n# ", "\n### ").removeprefix("# ") + cut,
    ]


def _finished(state: State, plots: dict[int, tuple[str, ...]]) -> list[str]:
    lines = ["## Runs to be judged"] if state.unreflected else []
    for it in state.unreflected:
        lines += ["", f"### Iteration {it.proposal.iteration}: {_what(state, it)}", "", *_one(state, it)]
        if plots.get(it.proposal.iteration):
            lines.append(f"Plots: {', '.join(plots[it.proposal.iteration])}")
    return lines


def _one(state: State, it: Iteration) -> Iterator[str]:
    assert it.final is not None
    scene = Scene(state, it.block)
    yield f"Strategy: {it.proposal.strategy}. Hypothesis: {it.proposal.hypothesis}"
    if it.final.outcome != "ok":
        yield f"Outcome: {it.final.outcome}: {' '.join(it.final.sentence.split())}"
        yield from code_edits.verdict_lines(state, it)
        return
    yield f"Class: {verdict(state, it).lower()}"
    node = state.nodes[it.node]
    origin = scene.origin(node) if it.proposal.mutation.kind != "replicate" else node
    names = list(dict.fromkeys([*(m.name for m in state.contract.metrics), *it.final.metrics]))
    head = (
        f"node {origin.id}, mean of {summarise(state, origin, scene.primary).n}" if origin else "no parent to compare"
    )
    yield ""
    yield f"| metric | this run | {head} | difference |"
    yield "|---|---|---|---|"
    for name in names:
        mine, theirs = it.metric(name), scene.mean(origin, name) if origin else None
        gain = "" if mine.value is None or theirs is None else f"{mine.value - theirs:+.4g}"
        yield f"| {name} | {metric_text(mine)} | {'' if theirs is None else f'{theirs:.4g}'} | {gain} |"
    yield ""
    sd = noise(state, scene.primary, it.block)
    known = "not measured yet" if sd.sd is None else f"sd {sd.sd:.4f}, {sd.degrees} d.o.f."
    yield f"Noise of {scene.primary}, pooled over replicates: {known}. A difference within three sd is noise."
    yield from code_edits.verdict_lines(state, it)
    degenerate = diagnosis_line(state.contract, it)
    if degenerate:
        yield f"Degeneracy: {degenerate}"
    idle = idle_text(state.contract, it.final)
    if idle:
        yield f"Keys that could not act: {idle}"


def _edits(state: State) -> list[str]:
    """Return the code edits that were tried, what decides the open ones, and what may be repaired."""
    off, tried = code_rules.off(state), code_edits.table(state)
    if off:
        return ["## Code edits", "", *tried, "", f"No more of them: {off}."] if tried else []
    lines = ["## Code edits", "", f"May be edited: {code_permission.editable(state.contract.scopes)}"]
    for part in (tried, code_edits.waiting(state)):
        lines += ["", *part] if part else []
    for it in edits.awaiting_repair(state):
        said = it.final.traceback if it.final is not None else ""
        if said:
            number = it.proposal.iteration
            lines += [
                "",
                f"What iteration {number} died of (output of its code, data):",
                "",
                *(f"    {line}" for line in said.splitlines()),
            ]
    return lines


def _candidates(state: State, block: int) -> list[str]:
    return ["## Parent candidates (ucb_scores.txt)", "", *ucb_scores.render(state, block).splitlines()]


def _triggers(state: State, block: int) -> list[str]:
    if not state.strategies:
        return []
    off = strategy_kinds.EDITS if code_rules.off(state) else ()
    found = [t for t in strategy.active(state, block) if t.kind not in off]
    lines = ["## Strategy rows that hold now", ""]
    return [*lines, *(f"- {t.strategy}: {t.evidence}. Action: {t.action}" for t in found)]


def _parameters(state: State, plans: Plans) -> list[str]:
    """Return the free keys with the values of the best node and of the start, what may be, and what was tried."""
    best = tree.best(state, plans.block)
    carried = Desk(state, state.last_iteration + 1, scene=Scene(state, plans.block)).carried
    base = state.base_config(carried.id if carried else None, plans.block)
    idle = _idle(state, best)
    shown = f"best node {best.id} (by mean less its error)" if best else "no node yet"
    head = f"| key | name | {shown} | block's start | may be | tried |"
    lines = ["## Parameters that may change", "", head, "|---|---|---|---|---|---|"]
    for rule in state.contract.keys:
        if rule.level == "free" and rule.key not in configs.SEED_KEYS:
            nodes = tree.block_nodes(state, plans.block)
            tried = dict.fromkeys(number(configs.get(n.config, rule.key)) for n in nodes)
            now = number(configs.get(best.config, rule.key)) if best else ""
            note = " (could not act)" if rule.key in idle else ""
            cells = (
                rule.key,
                rule.short + note,
                now,
                number(configs.get(base, rule.key)),
                bounds(rule) + (f"; steps {steps_text(rule.steps)}" if rule.steps else ""),
                ", ".join(tried),
            )
            lines.append(f"| {' | '.join(cells)} |")
    most = state.contract.max_changes
    held = block_changes.within(state, plans.block)
    listed = STEPS if any(rule.steps for rule in state.contract.keys) else ""
    return [*lines, "", f"At most {most} key(s) change in one iteration. All other keys are frozen.{listed}{held}"]


def _time(state: State, block: int) -> list[str]:
    """Return the time target or limit, and what the likely parents are expected to take, with what would keep it."""
    if not pace.is_timed(state.contract):
        return []
    rule = pace.budget_rule(state.contract) if state.contract.time_target_min is not None else None
    lines = ["## Training time", "", f"{pacing.state_text(state)}."]
    if rule is not None:
        lines.append(
            f"{rule.short} ({bounds(rule)}) may change beside the one key, so that a training takes about the target; "
            f"alone only where the estimate is off by more than {pace.TOLERANCE:.0%}. Nothing changes it for you."
        )
    lines += _limit(state.contract)
    best = tree.best(state, block)
    ranked = [s.node for s in tree.scores(state, block) if s.ucb is not None]
    for node in dict.fromkeys([*([best.id] if best is not None else []), *ranked[:TIMED]]):
        found = state.nodes[node]
        said = pacing.estimate_text(state, found.config, block, found.code)
        lines += [f"- node {node} as it is: {said}"] if said else []
    return lines


def _limit(contract: Contract) -> list[str]:
    """Return what the time limit asks of a proposal, nothing without one."""
    if pace.limit_min(contract, contract.start) is None:
        return []
    told = "A changed config that is expected to take longer than the limit is refused"
    rule = pace.budget_key(contract)
    if rule is None:
        return [f"{told}."]
    return [
        f"{told}; {rule.short} ({bounds(rule)}) may go down beside the other change, to the largest value that fits, "
        "and does not count then. Nothing changes it for you."
    ]


def _idle(state: State, best: Node | None) -> set[str]:
    if best is None:
        return set()
    ends = (state.iterations[i].final for i in best.iterations)
    return {key for end in ends if end is not None for key in end.keys_idle}


def _history(state: State, block: int) -> list[str]:
    its = [it for it in state.done if it.block == block]
    name = state.contract.primary.name
    lines = ["## History of this block", "", f"| iter | node | parent | mutation | {name} | class | strategy |"]
    lines.append("|---|---|---|---|---|---|---|")
    for it in its[-HISTORY_ROWS:]:
        parent = "root" if it.proposal.parent is None else str(it.proposal.parent)
        found = metric_text(it.metric(name)) if it.outcome == "ok" else f"{it.outcome}"
        mutated = describe(state.contract, it.proposal.mutation)
        cells = (
            it.proposal.iteration,
            it.node,
            parent,
            code_edits.cell(mutated),
            found,
            verdict(state, it).lower(),
            it.proposal.strategy,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    if len(its) > HISTORY_ROWS:
        lines.append(f"(the first {len(its) - HISTORY_ROWS} iterations of the block are left out)")
    failed = [it for it in its if it.outcome != "ok" and it.final is not None]
    told = [
        f"- iteration {it.proposal.iteration}: {' '.join(it.final.sentence.split())}" for it in failed[-10:] if it.final
    ]
    return [*lines, "", "Runs without a result:", *told] if told else lines if its else []


def _principles(state: State) -> list[str]:
    if not state.principles:
        return []
    lines = ["## Principles by number (for replaces)", ""]
    for i, p in enumerate(state.principles, 1):
        against = f"; against {', '.join(map(str, p.against))}" if p.against else ""
        where = f" [{p.regime}]" if p.regime else ""
        lines.append(f"- P{i}{where}: {p.text} (support {', '.join(map(str, p.support))}{against})")
    return lines
