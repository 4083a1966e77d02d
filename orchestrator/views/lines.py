"""One line of text for each thing that happens: what a log, a pipe or a non-terminal sees."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.core import block_keys, edits, ledger, tree
from orchestrator.core.classify import node_verdict, verdict
from orchestrator.core.contract import Contract
from orchestrator.core.events import (
    Alarm,
    Amended,
    Event,
    Opened,
    Refused,
    RegimeReady,
    RunEnded,
    RunReserved,
    Session,
    Turned,
)
from orchestrator.core.mutation import describe
from orchestrator.core.records import Proposal, Turn
from orchestrator.core.state import Iteration, State
from orchestrator.core.stats import noise, summarise
from orchestrator.formats import code_edits, code_permission, pacing
from orchestrator.formats.block import config_edited
from orchestrator.formats.entry import metric_text


def duration(seconds: float) -> str:
    """Return a duration as people say it: `0.4 s`, `42 s`, `3 min 05 s`, `2 h 10 min`."""
    if 0.05 <= seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def share(part: float | None) -> str:
    """Return a part of the whole in per cent, `-` when there is no whole."""
    return "-" if part is None else f"{100 * part:.0f} %"


def counted(number: int, what: str, plural: str = "") -> str:
    """Return a number of things: `1 reply`, `2 replies`."""
    return f"{number} {what if number == 1 else plural or what + 's'}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows of a table, indented, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def event_line(event: Event, state: State) -> str | None:
    """Return the line of an event, or None for one that people need not see.

    Of requests to a language model there is a line when their turn is taken: what went wrong before (a pause, a request
    that was lost) was said aloud by the scientist, where it happened.
    """
    match event.body:
        case Opened() as opened:
            return f"opened {opened.exploration}: profile {opened.profile}, device {opened.device}, seed {opened.seed}"
        case Session() as session:
            return (
                f"session {session.session}: scientist {session.scientist}, {slots_text(session)}, "
                f"sandbox {session.sandbox}, up to iteration {session.iterations}; {_found(state)}"
            )
        case RegimeReady() as regime:
            return f"regime {regime.name} ready: {preflight_line(regime, state.contract.primary.name)}"
        case Turned() as turned:
            told = cost_line(state, turned.turn)
            return "\n".join([*([told] if told else []), *turn_lines(state, turned.turn)]) or None
        case Amended() as amended:
            changed = [line[4:] for line in amended.diff.splitlines() if line.startswith("+++ ")]
            told = f"changed by a person and taken up: {', '.join(changed) or 'nothing that acts'}"
            return told + _switched(state, amended)
        case Refused() as refused:
            return f"refused ({refused.scientist}, try {refused.attempt}): {refused.reason}"
        case RunReserved() as run if run.attempt > 1:
            source = f" from the checkpoint of attempt {run.resumes}" if run.resumes else ""
            return f"iter {run.iteration}: attempt {run.attempt}{source}"
        case RunEnded() as ended:
            return ended_line(state, ended)
        case Alarm() as alarm:
            return f"alarm ({alarm.kind}): {alarm.sentence}"
    return None


def _switched(state: State, amended: Amended) -> str:
    """Return the line about code edits, with its line end, where a person switched them on or off."""
    rules = [change.contract for _, change in state.amendments if change.number < amended.number]
    before = rules[-1] if rules else state.opened.contract if state.opened is not None else {}
    if before.get("code") == amended.contract.get("code"):
        return ""
    sandbox = state.session.sandbox if state.session is not None else "none"
    return f"\n{code_permission.told(Contract.model_validate(amended.contract), sandbox)}"


def slots_text(session: Session) -> str:
    """Return how many slots a session has and, of several, how they are filled and what each is for."""
    roles = f": {', '.join(session.roles)}" if session.roles else ""
    return f"{session.slots} slot(s)" + (f" ({session.mode}{roles})" if session.slots > 1 else "")


def place(slot: int, device: str = "") -> str:
    """Return where a run is, e.g. ` [slot 1, GPU 0]`."""
    return f" [slot {slot}{f', GPU {device}' if device else ''}]"


def turn_lines(state: State, turn: Turn) -> list[str]:
    """Return the lines of a turn: the block that it ends, then what it proposes."""
    lines = []
    if turn.boundary is not None:
        said = turn.boundary
        where = f", regime {said.regime}" if said.regime else ""
        lines += [f"block {said.block} ends: {said.summary[0]}"]
        lines += [f"  rule {edit.op}: {edit.strategy} ({edit.reason})" for edit in said.rules]
        lines += [f"  {line}" for line in config_edited(state, said)]
        lines += [f"  next block{where}: {said.focus}"]
    lines += [line for said in turn.reflections for line in verdict_lines(state, said.iteration)]
    return lines + [proposal_line(state, p) for p in turn.proposals]


def verdict_lines(state: State, iteration: int) -> list[str]:
    """Return what a judged iteration says about code edits, one short line for each."""
    return [
        f"iter {iteration}: code edit of node {found.node}: {found.sentence.partition(':')[0]}"
        + (f", difference {edits.shown(found.difference, '+')}" if found.difference is not None else "")
        for found in code_edits.told(state, state.iterations[iteration])
    ]


def cost_line(state: State, turn: Turn) -> str | None:
    """Return who took a turn and what its conversation used; None when no model was asked or meant to be asked."""
    used = ledger.spent(state, turn.turn)
    if not used.calls and not turn.instead:
        return None
    asked = state.session.scientist if state.session else ""
    beside = f" in place of {asked}" if turn.instead else ""
    replies = counted(used.replies, "reply", "replies")
    said = f"turn {turn.turn}: {turn.scientist}{beside}, {replies}, {duration(used.seconds)}, {used.usd}"
    cache = f" (cache {share(used.cache_rate)})" if used.replies else ""
    return f"{said}{cache}; {ledger.spent_until(state, turn.turn).usd} spent"


def _found(state: State) -> str:
    done = len(state.done)
    return f"{done} iteration(s) are there already" if done else "nothing has run yet"


def preflight_line(regime: RegimeReady, primary: str) -> str:
    """Return oracle, null and ceiling of the primary metric in one phrase."""
    found = regime.preflight
    parts = [
        f"{name} {metric_or_none(found.get(name, {}).get(primary))}"
        for name in ("oracle", "null", "ceiling")
        if found.get(name)
    ]
    warnings = [f"\n  warning: {text}" for text in found.get("warnings", [])]
    return (f"{primary}: " + ", ".join(parts) if parts else "no preflight") + "".join(warnings)


def metric_or_none(value: object) -> str:
    """Return a preflight number for display."""
    return f"{value:.4f}" if isinstance(value, int | float) else "none"


def proposal_line(state: State, proposal: Proposal) -> str:
    """Return what is about to run and why."""
    parent = "root" if proposal.parent is None else proposal.parent
    change = describe(state.contract, proposal.mutation)
    what = f"{proposal.role}, fills an idle slot" if proposal.filler else proposal.role
    where = f" [slot {proposal.slot}, {what}]" if proposal.role is not None else ""
    code = proposal.mutation.code
    mends = f" (repair of iteration {code.repairs})" if code is not None and code.repairs is not None else ""
    return f"iter {proposal.iteration}{where}: {proposal.strategy}{mends}, parent={parent}, {change}"


def ended_line(state: State, ended: RunEnded) -> str:
    """Return how a run ended."""
    it = state.iterations[ended.iteration]
    if ended.outcome != "ok":
        again = "" if it.final else " (to be run again)"
        return f"iter {ended.iteration}: {ended.outcome}{again}: {ended.sentence}"
    name = state.contract.primary.name
    value = metric_text(it.metric(name))
    marks = "".join(f"; marked: {mark}" for mark in ended.marks)
    timed = pacing.entry_text(state, it)
    marks = (f"; {timed}" if timed else "") + marks
    return f"iter {ended.iteration}: {verdict(state, it).lower()}, {name}={value} in {duration(ended.seconds)}{marks}"


def best_line(state: State) -> str:
    """Return the best node so far with its error."""
    node, name = tree.best(state), state.contract.primary.name
    if node is None:
        return "best so far: none"
    summary = summarise(state, node, name)
    floor = noise(state, name)
    spread = f", noise sd {floor.sd:.4f} ({floor.degrees} d.o.f.)" if floor.sd is not None else ""
    where = f" in {state.regime_name(node.block)}" if state.contract.regimes else ""
    return f"best so far{where}: node {node.id}, {name} {summary.mean:.4f} (n={summary.n}{spread})"


def other_bests(state: State) -> list[str]:
    """Return a line for the best node of each regime but that of `best_line`, in the order of the contract."""
    node, name, found = tree.best(state), state.contract.primary.name, []
    here = state.regime_name(node.block) if node is not None else ""
    for regime in state.contract.regimes:
        other = tree.best_in_regime(state, regime.name)
        if other is not None and regime.name != here:
            summary = summarise(state, other, name)
            found.append(f"best in {regime.name}: node {other.id}, {name} {summary.mean:.4f} (n={summary.n})")
    return found


def seconds_per_iteration(state: State) -> float | None:
    """Return the mean wall time of finished runs, or None."""
    times = [it.final.seconds for it in state.done if it.final and it.final.seconds > 0]
    return sum(times) / len(times) if times else None


def left_line(state: State, iterations: int, running: Sequence[float] = ()) -> str:
    """Return how much is left to do and about how long that takes in the session's slots; fillers are extra.

    Args:
        state: of the exploration.
        iterations: total asked for.
        running: seconds that each run in flight has taken already, fillers left out.
    """
    done = sum(not it.proposal.filler for it in state.done)
    left, each = iterations - done, seconds_per_iteration(state)
    if left <= 0 or each is None:
        return f"{done} of {iterations} iterations done"
    work = left * each - sum(min(seconds, each) for seconds in running)
    slots = min(left, state.session.slots if state.session else 1)
    return f"{done} of {iterations} done, about {duration(max(0.0, work / slots))} left"


def block_label(state: State, block: int) -> str:
    """Return a block with its regime and the keys that make it another one: `block 2: n100, time_step=4`."""
    told = ", ".join(part for part in (state.regime_name(block), block_keys.shown(state, block)) if part)
    return f"block {block}" + (f": {told}" if told else "")


def tree_lines(state: State, block: int) -> list[tuple[int, Iteration]]:
    """Return (depth, iteration that created the node) of a block's nodes in tree order."""
    nodes = tree.block_nodes(state, block)
    inside = {n.id for n in nodes}
    children: dict[int | None, list[int]] = {}
    for node in nodes:
        children.setdefault(node.parent if node.parent in inside else None, []).append(node.id)
    rows: list[tuple[int, Iteration]] = []
    stack = [(0, i) for i in reversed(children.get(None, []))]
    while stack:
        depth, i = stack.pop()
        rows.append((depth, state.iterations[i]))
        stack.extend((depth + 1, c) for c in reversed(children.get(i, [])))
    return rows


def node_line(state: State, depth: int, it: Iteration) -> str:
    """Return a node of the tree: id, mutation, mean metric with its error, verdict."""
    node, name = state.nodes[it.node], state.contract.primary.name
    summary = summarise(state, node, name)
    what = describe(state.contract, it.proposal.mutation)
    if it.final is None:
        result = "running" if it.in_flight else "waiting"
    elif summary.mean is None:
        result = str(it.outcome) if it.outcome != "ok" else f"no {name} ({summary.reason})"
    else:
        error = f" ± {summary.standard_error:.4f}" if summary.standard_error is not None else ""
        result = f"{summary.mean:.4f}{error} {node_verdict(state, node).lower()}"
        result += f", n={summary.n}" if summary.n > 1 else ""
        result += f", code {edits.judged(state, node).verdict}" if it.proposal.mutation.code is not None else ""
    leader = tree.best(state)
    star = " *" if leader is not None and leader.id == node.id else ""
    return f"{'  ' * depth}{node.id}: {what}  {result}{star}"
