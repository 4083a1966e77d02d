"""What an instruction says in two ways: each check looks for two statements that cannot both hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.formats.draft import InstructionDraft, Problem

_ASSIGNED = re.compile(r"\b([A-Za-z_]\w*)\s*=\s*([\w.+-]+)")
_Found = Iterator[tuple[int, str]]


def contradictions(draft: InstructionDraft, *, compiled: bool = False) -> tuple[Problem, ...]:
    """Return the contradictions of an instruction as warnings with both lines.

    Args:
        draft: what was read.
        compiled: whether the compiler has judged the user instructions itself (it knows the declared regimes).
    """
    checks = (misplaced, distributions, several_changes, reductions, depths)
    found = [c for check in checks for c in check(draft)]
    if not compiled:
        found = [*wishes_against_frozen(draft), *found]
    return tuple(Problem(where=draft.where(line), text=text, stops=False) for line, text in dict.fromkeys(found))


def wishes_against_frozen(draft: InstructionDraft) -> _Found:
    """User instructions that ask for another value of something frozen."""
    whole = [f for f in draft.frozen if f.section == "simulation"]
    stated = dict(_ASSIGNED.findall(draft.goal.text)) if draft.goal else {}
    metrics = {word for m in draft.metrics for word in (m.name, *m.aliases)}
    for wish in draft.user_instructions:
        asked = [(name, word.rstrip(".")) for name, word in _ASSIGNED.findall(wish.text)]
        of_system = not stated or any(
            name in stated for name, _ in asked
        )  # a name beside one of the system's is its too
        for name, value in asked:
            key = next((k for k in draft.keys if k.name == name), None)
            by = next((f.line for f in draft.frozen if name in f.keys), None)
            if key is not None and key.level == "frozen" and str(key.default) != value:
                by = key.line
            elif key is None and by is None and whole and name not in (*whole[-1].exceptions, *metrics):
                by = whole[0].line if of_system and stated.get(name, "").strip(".") != value else None
            if by is not None:
                yield wish.line, f"user instructions ask for {name} = {value}, which line {by} freezes"


def misplaced(draft: InstructionDraft) -> _Found:
    """A key that is excepted from a frozen section, and listed under another one."""
    for statement in draft.frozen:
        for name in statement.exceptions:
            for key in draft.keys:
                if key.name == name and key.section and key.section != statement.section:
                    yield (
                        key.line,
                        f"{name} stands under `{key.section}:` here and as a key of `{statement.section}:` in line "
                        f"{statement.line}; training.{name} is a replicate, simulation.{name} draws another system",
                    )


def distributions(draft: InstructionDraft) -> _Found:
    """Two distributions of W."""
    first = draft.noise_scales[:1]
    other = next((s for s in draft.noise_scales if s.text != first[0].text), None) if first else None
    if other is not None:
        yield other.line, f"W is {other.text} here and {first[0].text} in line {first[0].line}"


def several_changes(draft: InstructionDraft) -> _Found:
    """One change an iteration, and a strategy that merges the keys of two nodes."""
    if draft.max_changes is None or draft.max_changes[0] != 1:
        return
    for row in draft.strategies:
        if row.strategy == "recombine" and "merge" in row.action.lower():
            line = draft.max_changes[1]
            yield row.line, f"strategy recombine merges several keys, line {line} allows one change an iteration"


def reductions(draft: InstructionDraft) -> _Found:
    """One loss term as a sum and as a mean: its coefficient means two things."""
    first: dict[str, tuple[str, int]] = {}
    for term in draft.reductions:
        name = next((k.name for k in draft.keys if term.name in (k.name, k.short)), term.name)
        word, line = first.setdefault(name, (term.word, term.line))
        if word != term.word:
            yield term.line, f"the term of {name} is a {term.word} here and a {word} in line {line}"


def depths(draft: InstructionDraft) -> _Found:
    """A number of layers, and networks of another depth."""
    key = next((k for k in draft.keys if k.name == "n_layers" and isinstance(k.default, int)), None)
    if key is None:
        return
    for network in draft.layers:
        count = network.text.count(",")
        if count != key.default:
            text = f"MLP([{network.text}]) has {count} layers, and n_layers is {key.default} in line {key.line}"
            yield network.line, text
