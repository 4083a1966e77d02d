"""Frozen records shared by every layer, and the closed sets they use."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Scalar: TypeAlias = bool | int | float | str | None
Config: TypeAlias = dict[str, dict[str, Any]]
"""Sections (`simulation`, `graph_model`, `training`, `claude`) -> key -> value."""

Outcome = Literal["ok", "crashed", "timed_out", "killed", "out_of_memory", "diverged", "rejected", "lost_node"]
"""How a run ended. Only `ok` has metrics that count."""

Role = Literal["exploit-best", "exploit-second", "explore", "principle-test", "control"]
"""What a slot's proposals are for when several run at once: the best node by UCB, the second best, a node that was
looked at little, a test of a principle, another run of the best node beside the others."""

Mode = Literal["batch", "refill"]
"""How slots are filled: all together when all runs are judged, or each at once when its run is."""

RETRIED: frozenset[Outcome] = frozenset({"killed", "lost_node", "out_of_memory"})
"""Outcomes that say nothing about the idea: the run is tried once more as a new attempt."""


class Record(BaseModel):
    """Base of all records: immutable and closed to unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Metric(Record):
    """One measured value, or the reason why there is none."""

    value: float | None = Field(allow_inf_nan=False)
    """Finite number, or null."""
    reason: str | None = None
    """Why `value` is null: `nan`, `inf`, `-inf`, `missing`, or a sentence."""
    version: int = 1
    """Version of the metric's definition; values of different versions are not compared."""


class Change(Record):
    """One config key that changes, e.g. `training.learning_rate_W_start: 0.003 -> 0.006`."""

    key: str
    """`section.name`."""
    old: Any
    new: Any


class CodeEdit(Record):
    """One definition of a file that a code edit changes."""

    path: str
    """`models/signal.py`."""
    unit: str
    """`data_train_signal`, `SignalPropagation.__init__`, or `(module)`: statements outside every definition."""
    added: int = Field(ge=0)
    """Lines."""
    removed: int = Field(ge=0)
    """Lines."""
    sha: str
    """Of what became of what, comments and layout left out: equal for the same edit, whatever else differs."""


class CodeChange(Record):
    """A code edit that was proven and committed."""

    change: str
    """What was changed, one line."""
    edits: tuple[CodeEdit, ...]
    """Against the parent's code; of a repair, too."""
    commit: str
    """Of the exploration's own repository; its tree is the proposal's `code`."""
    repairs: int | None = None
    """Crashed iteration whose edit this one mends."""
    combines: tuple[int, ...] = ()
    """Nodes whose edits are taken together."""
    patch: str = ""
    """Name of the prepared patch that it is; "" is the scientist's own."""

    @property
    def sha(self) -> str:
        """What makes two edits the same."""
        return sha_of(sorted(f"{e.path} {e.unit} {e.sha}" for e in self.edits))


class Mutation(Record):
    """What turns the parent into the child: nothing (baseline, replicate), 1..k key changes, or one code edit."""

    kind: Literal["baseline", "config", "replicate", "code"]
    changes: tuple[Change, ...] = ()
    code: CodeChange | None = None
    """Of kind `code`, and only there."""
    replicate_of: int | None = None
    """Node whose config is run again (kind `replicate`)."""
    second_parent: int | None = None
    """Node of which a recombination takes values: every changed key has its value there."""
    fitted: bool = False
    """Whether the last change, of the budget key, only keeps the training within its time limit: it does not count."""


class Proposal(Record):
    """One run that the scientist asks for; parent and mutation are fixed here, in its turn."""

    iteration: int = Field(ge=1)
    parent: int | None
    """Id of the parent node; null is root (the tree is per block)."""
    base: int | None
    """Node whose config and code the child starts from: the parent, or with parent root the node that is carried
    over a block boundary; null is the exploration's start."""
    mutation: Mutation
    config_sha: str
    """Of the effective config without seeds: checks the derivation parent + mutation."""
    code: str
    """Tree sha of the code that trains."""
    training_seed: int
    simulation_seed: int
    strategy: str
    parent_rule: str
    hypothesis: str
    evidence: str = ""
    """What the strategy's trigger saw, with iterations and numbers; "" when none was needed."""
    slot: int = Field(default=0, ge=0)
    """Position among the runs in flight that it is made for."""
    role: Role | None = None
    """Of the slot; null when there is one slot only."""
    filler: bool = False
    """A replicate beyond the block's length, in a slot that would stand idle until the block's last runs end."""
    predicted_min: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Training time that was expected of it, in minutes; null without a time target or limit, or a run to go by."""


class Visual(Record):
    """What the scientist saw in one plot."""

    label: str
    """Of the instruction's `Visual:` line (`MLP_sub`), or a word of the scientist's own."""
    plot: str
    """Below the run's folder: `plots/loss.png`."""
    text: str


class Reflection(Record):
    """What the scientist says about a finished iteration."""

    iteration: int
    observation: str
    next_parent: int | None
    """Node that the scientist would extend next; null is root."""
    visual: tuple[Visual, ...] = ()
    """Of plots that were viewed."""


class Principle(Record):
    """Something learned, with the iterations that show it."""

    text: str
    regime: str
    """Where it was seen."""
    support: tuple[int, ...]
    against: tuple[int, ...] = ()
    """Iterations that contradict it."""


class RuleEdit(Record):
    """A change of one row of the strategy table, made at a block's end."""

    op: Literal["add", "change", "remove"]
    strategy: str
    condition: str = ""
    action: str = ""
    reason: str
    """Measured evidence for the edit."""


class Boundary(Record):
    """The end of a block: what it showed, how the rules change, and what the next block is for."""

    block: int = Field(ge=1)
    """The block that ends."""
    summary: tuple[str, ...]
    """Two or three lines."""
    rules: tuple[RuleEdit, ...] = ()
    regime: str
    """Of the next block."""
    focus: str
    """Of the next block."""
    focus_keys: tuple[str, ...] = ()
    """Keys (`section.name`) that the next block looks at first."""
    changes: tuple[Change, ...] = ()
    """Keys that change between blocks only, and the budget key of a time target, for the next block."""
    changes_reason: str = ""
    """Why these values; "" when there are no changes."""
    hypothesis: str


class Turn(Record):
    """The scientist's whole say, taken or refused as one."""

    turn: int = Field(ge=1)
    based_on: int
    """Sequence number of the last event that the scientist had seen."""
    asked: int | None = None
    """Proposals that it was asked for at most; null in journals from before slots."""
    scientist: str
    instead: str = ""
    """Why this scientist decided in place of the one that was asked first; "" when it was the one."""
    reflections: tuple[Reflection, ...] = ()
    proposals: tuple[Proposal, ...] = ()
    emerging: tuple[str, ...] = ()
    """New content of memory.md's last section."""
    questions: tuple[str, ...] | None = None
    """The scientist's open questions, all of them; null leaves them as they are."""
    hypothesis: str = ""
    """Of the block in progress, in place of what was said before; "" leaves it."""
    principles: tuple[Principle, ...] = ()
    """All that hold now, in place of those of earlier turns; empty leaves them."""
    acknowledged: tuple[str, ...] = ()
    """How each user instruction in force is honoured, in their order."""
    boundary: Boundary | None = None
    """Present in the turn that ends a block, and only there."""


def canonical(value: Any) -> str:
    """Return `value` as JSON with sorted keys and no spaces: the text that shas are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha_of(value: Any) -> str:
    """Return the sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
