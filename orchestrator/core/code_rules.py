"""When the code may be edited, and by what kind of edit: the rules of the seeds, checked on every proposal.

Source: seed documents 002 and 004, Step 5.2: never in the first four iterations of a block, never together with a
config change, one change at a time, compared directly to the parent on the same config; two changes together only
under `multi-code-modification`, when each alone was neutral against the same parent.
"""

from __future__ import annotations

from orchestrator.core import edits
from orchestrator.core.records import CodeChange, Proposal
from orchestrator.core.state import State
from orchestrator.core.strategy_kinds import kind_of
from orchestrator.errors import RefusedError

QUIET = 4
"""First iterations of a block without a code edit: they establish its baseline."""
TOGETHER = "multi-code-modification"


def off(state: State) -> str:
    """Return why this exploration's code may not be edited; "" when it may."""
    contract = state.contract
    if contract.code == "off":
        return "code edits are off in this exploration (exploration.yaml: `code: off`)"
    if not contract.scopes:
        return "the instruction permits no code to be edited"
    if state.session is not None and state.session.sandbox == "none" and not contract.unsandboxed:
        return (
            "code edits are off on this machine: it has no sandbox (bubblewrap or Landlock), and exploration.yaml "
            "does not accept `sandbox: none`"
        )
    return ""


def closed(state: State, iteration: int, block: int) -> str:
    """Return why an iteration may not edit the code; "" when it may."""
    place = iteration - state.first_of(block) + 1
    if place <= QUIET:
        return off(state) or (
            f"iteration {iteration} is number {place} of its block, and the first {QUIET} establish its baseline; "
            "change a key or replicate"
        )
    return off(state)


def seeds(state: State, node: int) -> tuple[int, int] | None:
    """Return the training seed and draw of a node's first good run on its block's draw: its children's, to be paired.

    None when no run of the node has ended well.
    """
    draw = state.draw(state.nodes[node].block)
    for i in state.nodes[node].iterations:
        it = state.iterations[i]
        if it.outcome == "ok" and it.proposal.simulation_seed == draw:
            return it.proposal.training_seed, it.proposal.simulation_seed
    return None


def check(state: State, proposal: Proposal, earlier: tuple[Proposal, ...] = ()) -> None:
    """Raise RefusedError unless a proposal's code is its base's, or comes from an edit that keeps every rule.

    Args:
        state: the fold.
        proposal: the next one.
        earlier: the proposals of its turn that come before it.
    """
    change, mutation = proposal.mutation.code, proposal.mutation
    if (change is None) != (mutation.kind != "code"):
        raise RefusedError(f"a mutation of kind {mutation.kind} refused: kind `code` and a code edit go together")
    if change is None:
        _check_inherited(state, proposal)
        return
    block = state.block_for(proposal)
    why = closed(state, proposal.iteration, block)
    if why:
        raise RefusedError(f"the code edit of iteration {proposal.iteration} refused: {why}")
    if mutation.changes:
        raise RefusedError(
            "a code edit together with a config change refused: nobody could say which of them made the difference; "
            "keep one of them"
        )
    _check_pair(state, proposal)
    _check_kind(state, proposal, change)
    _check_beside(proposal, change, earlier)
    old = edits.repeat(state, change.sha, proposal.parent, block)
    if old and change.repairs is None:
        raise RefusedError(f"the code edit of iteration {proposal.iteration} refused: {old}")


def _check_beside(proposal: Proposal, change: CodeChange, earlier: tuple[Proposal, ...]) -> None:
    """Raise RefusedError when another slot of the turn mends the same crash, or makes the same edit."""
    for other in earlier:
        code = other.mutation.code
        if code is not None and change.repairs is not None and code.repairs == change.repairs:
            raise RefusedError(
                f"a repair of iteration {change.repairs} refused: iteration {other.iteration} of this turn mends it"
            )
        if code is not None and code.sha == change.sha and other.parent == proposal.parent:
            raise RefusedError(
                f"the code edit of iteration {proposal.iteration} refused: iteration {other.iteration} of this turn is "
                "the same edit (but for comments or layout); make another, or run it again later"
            )


def _check_inherited(state: State, proposal: Proposal) -> None:
    assert state.opened is not None
    base = proposal.mutation.replicate_of or proposal.base
    code = state.nodes[base].code if base is not None else state.opened.code
    if proposal.code != code:
        raise RefusedError(
            f"code {proposal.code[:12]} refused: without a code edit iteration {proposal.iteration} has the code "
            f"{code[:12]} of {'node ' + str(base) if base is not None else 'the start'}"
        )


def _check_pair(state: State, proposal: Proposal) -> None:
    """Raise RefusedError unless the child can be compared with its parent: same config, same seeds."""
    if proposal.parent is None:
        raise RefusedError("a code edit from root refused: it is compared with its parent; choose a finished node")
    parent = state.nodes[proposal.parent]
    wanted = seeds(state, parent.id)
    if wanted is None:
        raise RefusedError(f"a code edit of node {parent.id} refused: no run of it ended well, so nothing compares")
    if proposal.config_sha != parent.config_sha:
        raise RefusedError("a code edit with another config than its parent's refused: keep the parent's config")
    if (proposal.training_seed, proposal.simulation_seed) != wanted:
        raise RefusedError(
            f"a code edit at seeds {proposal.training_seed}, {proposal.simulation_seed} refused: it is paired with "
            f"node {parent.id} at training seed {wanted[0]} and simulation seed {wanted[1]}"
        )


def _check_kind(state: State, proposal: Proposal, change: CodeChange) -> None:
    """Raise RefusedError unless an edit is one change, a repair that is due, or two neutral ones together."""
    permitted = {(s.path, s.function) for s in state.contract.scopes}
    for edit in change.edits:
        if (edit.path, None) not in permitted and (edit.path, edit.unit) not in permitted:
            raise RefusedError(f"{edit.path}: {edit.unit} refused: it is outside the code that may be edited")
    if change.combines:
        _check_together(state, proposal, change)
    elif change.repairs is not None:
        check_repair(state, change.repairs, proposal.parent)
    elif len(change.edits) != 1:
        raise RefusedError(f"{len(change.edits)} definitions changed at once refused: one change at a time")


def check_repair(state: State, iteration: int, parent: int | None) -> None:
    """Raise RefusedError unless the edit of an iteration is waiting for a repair."""
    due = {it.proposal.iteration: it for it in edits.awaiting_repair(state)}
    if iteration not in due:
        told = ", ".join(map(str, sorted(due))) or "none; make a new edit, or change a key"
        raise RefusedError(
            f"a repair of iteration {iteration} refused{_why_not(state, iteration)}; iterations whose code crashed and "
            f"may be repaired ({edits.REPAIRS} times at most): {told}"
        )
    if due[iteration].proposal.parent != parent:
        raise RefusedError(
            f"parent={parent} refused: the repair of iteration {iteration} has its parent, "
            f"{due[iteration].proposal.parent}"
        )


def _why_not(state: State, iteration: int) -> str:
    """Return why the edit of an iteration is not to be repaired, "" where the list says enough."""
    it = state.iterations.get(iteration)
    if it is None or it.proposal.mutation.code is None or it.outcome != "crashed":
        return ": no edit of it crashed"
    later = edits.repaired_by(state, iteration)
    if later is not None:
        return f": iteration {later} is its repair"
    return "" if edits.repairs_left(state, iteration) else ": it was repaired as often as may be"


def _check_together(state: State, proposal: Proposal, change: CodeChange) -> None:
    kind = kind_of(proposal.strategy, "")
    if kind is None or kind.key != TOGETHER:
        raise RefusedError(f"two code edits at once refused: only under the strategy {TOGETHER}")
    if len(set(change.combines)) != 2:
        raise RefusedError(f"a combination of {list(change.combines)} refused: it takes two nodes")
    for node in change.combines:
        neutral = [n.id for n in edits.code_nodes(state) if _neutral(state, n.id, proposal.parent)]
        if node not in neutral:
            raise RefusedError(
                f"node {node} refused: edits are combined when each alone was neutral against the same parent "
                f"{proposal.parent}; such nodes: {neutral or 'none'}"
            )


def _neutral(state: State, node: int, parent: int | None) -> bool:
    found = state.nodes[node]
    return found.parent == parent and edits.judged(state, found).verdict == "neutral"
