"""What the corpus of hostile replies is written with: cases, and replies that are good but for one thing.

`what`, `rule` and `instead` are patterns that the answer must hold: what was refused, the rule, a valid alternative.
`marks` are words of the hostile part that must be in no view. A reply may be a function of the conversation's messages.
"""

from dataclasses import dataclass

from orchestrator.core.dialogue import Usage
from orchestrator.llm.scripted import uses
from tests.scientist import stage

COST = Usage(input_tokens=1000, output_tokens=100)


@dataclass(frozen=True)
class Case:
    """One hostile reply (or several), and what must come of it."""

    kind: str
    name: str
    replies: tuple
    what: str = ""
    rule: str = ""
    instead: str = ""
    stage: str = "middle"
    refusals: int = 1
    marks: tuple = ()


KINDS = (
    "wrong-types",
    "unknown-keys",
    "out-of-range",
    "frozen-key",
    "two-changes",
    "no-op",
    "nan",
    "huge-text",
    "path-traversal",
    "injection",
    "false-metric",
    "cited",
    "memory",
    "unknown-tool",
    "parallel",
    "empty-reply",
    "refusal",
    "max-tokens",
)
"""Of the acceptance criterion; truncated JSON and cut streams are in tests/e2e/test_hostile_http.py."""
CASES = []


def case(kind, name, replies, what="", rule="", instead="", **more):
    """Add a case to the corpus."""
    replies = tuple(replies) if isinstance(replies, list | tuple) else (replies,)
    CASES.append(Case(kind, name, replies, what, rule, instead, **more))


EMPTY = {"slot": 0, "strategy": "exploit", "parent_rule": "a", "hypothesis": "b"}
"""A plan for slot 0."""
CHOSEN = ("choose_parent", {"slot": 0, "parent": 1, "second_parent": None})


def sets(key, value):
    """Return a reply that sets a key of slot 0."""
    return uses(CHOSEN, ("set_hyperparameter", {"slot": 0, "key": key, "value": value}))


def observed(text, **more):
    """Return a reply whose submit is good but for an observation."""

    def reply(messages):
        calls, given = stage.plan(messages)
        given["observations"][0] |= {"observation": text} | more
        return uses(*calls, ("submit", given))

    return reply


def planned(**words):
    """Return a reply whose submit is good but for words of the first plan."""

    def reply(messages):
        calls, given = stage.plan(messages)
        given["proposals"][0] |= words
        return uses(*calls, ("submit", given))

    return reply


def submits(**parts):
    """Return a reply whose submit is good but for whole parts; a function makes a part from the good one."""

    def reply(messages):
        calls, given = stage.plan(messages)
        for name, part in parts.items():
            given[name] = part(given[name]) if callable(part) else part
        return uses(*calls, ("submit", given))

    return reply


def writes(*lines, section="Emerging Observations"):
    """Return a reply that writes a section."""
    return uses(("write_memory_section", {"section": section, "lines": list(lines)}))


def learns(text="a smaller step is worse", support=(1, 2), against=(), replaces=()):
    """Return a reply that adds a principle."""
    given = {"text": text, "support": list(support), "against": list(against), "replaces": list(replaces)}
    return uses(("add_principle", given))


def nested(levels):
    """Return lists in lists."""
    found = []
    for _ in range(levels):
        found = [found]
    return found


LISTS_KEYS = "learning_rate_W_start"
