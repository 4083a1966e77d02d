"""How an edit of the code becomes a proposal: held against scope and rules, then proven and committed by the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.core import code_rules, configs, mutation, scope
from orchestrator.core.records import CodeChange, CodeEdit, Mutation, Proposal
from orchestrator.errors import RefusedError
from orchestrator.ports import Candidate, CodeOffice

if TYPE_CHECKING:
    from orchestrator.scientist.desk import CodeDraft, Desk, Draft


def office(desk: Desk) -> CodeOffice:
    """Return what lends the code; raises RefusedError where there is nothing to lend."""
    if desk.office is None:
        raise RefusedError(f"a code edit refused: {code_rules.off(desk.state) or 'no code can be edited here'}")
    return desk.office


def proposal(desk: Desk, draft: Draft, code: CodeDraft, fields: dict[str, object]) -> Proposal:
    """Return the proposal of a code edit.

    Raises:
        RefusedError: it leaves the scope, breaks a rule, or does not survive its trial.
    """
    if draft.node is None:
        raise RefusedError("a code edit from root refused: it is compared with its parent; choose a finished node")
    node, base = desk.state.nodes[draft.node], draft.node if code.repairs is None else code.repairs
    seeds = code_rules.seeds(desk.state, node.id)
    if seeds is None:
        raise RefusedError(f"a code edit of node {node.id} refused: no run of it ended well, so nothing compares")
    if all(office(desk).text(desk.state.nodes[base].code, path) == text for path, text in code.texts.items()):
        raise RefusedError(f"nothing was changed in the code of node {base}: edit it first, with edit_code")
    found = changed(desk, node.code, code)
    made = CodeChange(
        change=code.change, edits=found, commit="", repairs=code.repairs, combines=code.combines, patch=code.patch
    )
    given: dict[str, object] = {
        "parent": node.id,
        "base": base,
        "mutation": Mutation(kind="code", code=made),
        "config_sha": node.config_sha,
        "training_seed": seeds[0],
        "simulation_seed": seeds[1],
    }
    first = desk.proposal(**(fields | given))
    code_rules.check(desk.state, first, desk.pending)  # what costs nothing goes before the trial
    seeded = dict(zip(configs.SEED_KEYS, seeds, strict=True))
    candidate = Candidate(
        iteration=desk.iteration,
        parent=node.id,
        base=base,
        texts=code.texts,
        units=tuple(f"{e.unit} ({e.path})" for e in found),
        change=code.change,
        hypothesis=draft.hypothesis,
        config=configs.with_values(desk.state.base_config(node.id, desk.block), seeded),
    )
    tree, commit = office(desk).prove(candidate)
    proven = made.model_copy(update={"commit": commit})
    last = first.model_copy(update={"code": tree, "mutation": Mutation(kind="code", code=proven)})
    mutation.check(desk.state, last, desk.pending)
    return last


def changed(desk: Desk, tree: str, code: CodeDraft) -> tuple[CodeEdit, ...]:
    """Return what an edit changes in a code state; raises RefusedError when it leaves the scope."""
    found: list[CodeEdit] = []
    for path, text in sorted(code.texts.items()):
        before = office(desk).text(tree, path)
        found += scope.check(desk.state.contract.scopes, path, before, text, most=None if code.combines else 1)
    return tuple(found)
