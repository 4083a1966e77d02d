"""What the offline scientist does with code: it writes none, and tries the exploration's prepared patches.

The next untried patch is put on the best node when a row of the strategy table about code asks for an edit, and once in
`EVERY` iterations of a block after its first four. An edit whose difference is within noise is run again, paired with
its parent, until it is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.core import code_rules, edits
from orchestrator.core.contract import Patch
from orchestrator.core.state import Node
from orchestrator.core.strategy import Trigger
from orchestrator.errors import RefusedError
from orchestrator.scientist.desk import CodeDraft, Desk, Draft
from orchestrator.scientist.policy import moves

EVERY = 4
MODIFICATION = "code-modification"
Drafts = Iterator[Draft]


def deciding(desk: Desk) -> Iterator[tuple[Draft, str, str]]:
    """Yield the runs that decide code edits: paired with their parents' at the same seeds."""
    for found in desk.undecided:
        assert found.wanted is not None
        node, seed = found.wanted
        rule = f"the code edit of node {found.node} is within noise so far"
        expected = f"node {node} at training seed {seed} makes another pair, which tells the edit from noise"
        yield Draft(node=node, training_seed=seed, rule=rule, hypothesis=expected), "replicate", found.sentence


def due(desk: Desk) -> Iterator[tuple[Draft, str, str]]:
    """Yield patches for the best node when one is due by the iteration's place in its block."""
    place = desk.iteration - desk.state.first_of(desk.block)
    if not desk.state.contract.patches or (place - code_rules.QUIET) % EVERY:
        return
    told = f"one in {EVERY} iterations after the first {code_rules.QUIET} of a block tries a prepared patch"
    for draft in _next(desk, desk.leader, "the best node so far"):
        yield draft, MODIFICATION, told


def modification(desk: Desk, trigger: Trigger) -> Drafts:
    """Yield the untried patches on the best node."""
    yield from _next(desk, desk.leader, f"{trigger.strategy}: the best node")


def on_top(desk: Desk, trigger: Trigger) -> Drafts:
    """Yield the untried patches on top of a neutral edit, which does no harm."""
    yield from _next(desk, desk.state.nodes[trigger.nodes[0]], f"{trigger.strategy}: on top of the neutral edit")


def refine(desk: Desk, trigger: Trigger) -> Drafts:
    """Yield steps of the config around a code edit that is kept."""
    node = desk.state.nodes[trigger.nodes[0]]
    for move in moves(desk, node):
        told = f"the code of node {node.id} is kept, its config is tuned around it"
        expected = f"{move.change.key} has another best value with this code"
        yield Draft(node=node.id, changes=(move.change,), rule=told, hypothesis=expected)


def together(desk: Desk, trigger: Trigger) -> Drafts:
    """Yield two neutral edits of one parent as one."""
    if desk.office is None or len(trigger.nodes) < 2:
        return
    pair = tuple(sorted(trigger.nodes[-2:]))
    first, second = (desk.state.nodes[n] for n in pair)
    if first.parent is None or first.parent != second.parent:
        return
    parent = desk.state.nodes[first.parent]
    try:
        texts = desk.office.combined(parent.code, (first.code, second.code))
    except RefusedError:
        return  # they change the same lines
    told = " and ".join(_change(desk, node) for node in (first, second))
    code = CodeDraft(texts=texts, change=f"nodes {pair[0]} and {pair[1]} together: {told}", combines=pair)
    expected = "what each alone does not change, both together do"
    yield Draft(node=parent.id, code=code, rule="the parent of both", hypothesis=expected)


def _change(desk: Desk, node: Node) -> str:
    change = desk.state.iterations[node.id].proposal.mutation.code
    return change.change if change is not None else ""


def _next(desk: Desk, node: Node | None, rule: str) -> Drafts:
    """Yield the patches that this regime has not tried, in their order, as edits of a node."""
    if desk.office is None or node is None or code_rules.closed(desk.state, desk.iteration, desk.block):
        return
    if desk.undecided or code_rules.seeds(desk.state, node.id) is None:
        return
    for patch in desk.state.contract.patches:
        if not _tried(desk, patch):
            try:
                texts = desk.office.patched(node.code, patch.text)
            except RefusedError:
                continue  # an earlier edit of this node stands in its place
            code = CodeDraft(texts=texts, change=patch.change, patch=patch.name)
            yield Draft(node=node.id, code=code, rule=rule, hypothesis=patch.hypothesis)


def _tried(desk: Desk, patch: Patch) -> bool:
    regime = desk.state.regime_name(desk.block)
    made = (desk.state.iterations[n.id] for n in edits.code_nodes(desk.state))
    here = [it.proposal for it in made if desk.state.regime_name(it.block) == regime]
    return any(p.mutation.code is not None and p.mutation.code.patch == patch.name for p in (*here, *desk.pending))


ACTIONS: dict[str, Callable[[Desk, Trigger], Drafts]] = {
    "code-modification": modification,
    "code-revert": modification,
    "code-next-priority": on_top,
    "code-refine": refine,
    "multi-code-modification": together,
}
"""`Kind.key` -> action, for the rows about code edits."""
