"""Scripted replies of a model that edits code: for some iterations, what it tries first, second, third."""

from typing import NamedTuple

from orchestrator.llm.demo import DemoScript
from tests import claude

PATH = "trainers/signal.py"
STEP = "gain = gain + 0.0 * rate"


class Try(NamedTuple):
    """What a slot is asked to run; after a refusal the next one is tried."""

    calls: tuple
    """(tool, arguments without the slot)."""
    change: str = ""
    strategy: str = "exploit"


def parent(node):
    return "choose_parent", {"parent": node, "second_parent": None}


def edit(old, new, path=PATH):
    given = dict.fromkeys(("view_range", "file_text", "insert_line", "insert_text"))
    return "edit_code", {"command": "str_replace", "path": path, "old_str": old, "new_str": new} | given


def view(path=PATH):
    given = dict.fromkeys(("view_range", "file_text", "old_str", "new_str", "insert_line", "insert_text"))
    return "edit_code", {"command": "view", "path": path} | given


def key(name, value):
    return "set_hyperparameter", {"key": name, "value": value}


def on(node, new, change, strategy="code-modification"):
    """Return the usual edit: the toy's one line of a node's code in another form."""
    return Try((parent(node), edit(STEP, new)), change, strategy)


def repair(iteration, old, new, change):
    return Try((("repair_code", {"iteration": iteration}), edit(old, new)), change, "code-modification")


class CodeScript(DemoScript):
    """A demo script that edits code in some iterations; a function of the request alone."""

    def __init__(self, code, changes=claude.CHANGES):
        super().__init__(changes, {}, "learning_rate_W_start")
        self._code = code

    def _try(self, task, slot):
        tries = self._code.get(task.slots[slot], ())
        return tries[min(task.refusals, len(tries) - 1)] if tries else None

    def _plan(self, task, slot):
        found = self._try(task, slot)
        if found is None:
            return super()._plan(task, slot)
        return [(tool, {"slot": slot} | given) for tool, given in found.calls]

    def _mend(self, task):
        return [call for slot in task.slots for call in self._plan(task, slot)] or [self._submit(task)]

    def _submit(self, task):
        name, given = super()._submit(task)
        for said in given["observations"]:
            said["observation"] = "a scripted remark: compare with the parent's, degenerate where the gap says so"
        for plan in given["proposals"]:
            found = self._try(task, plan["slot"])
            if found is not None:
                plan |= {"change": found.change, "strategy": found.strategy}
        return name, given
