"""The script of `make demo`: a few rules that answer like a model would, over the Messages API on this machine.

Nothing here is a language model. The replies are scripted: they read the turn's task from the prompt, look at a log and
a plot, change one key after another by a fixed list, run into the rules twice, and hand the turn in. They show the path
that a real model takes: prompts, tools, refusals, costs, memory.
"""

from __future__ import annotations

import json
import re
from typing import Any

from orchestrator.core.dialogue import Block
from orchestrator.llm.answers import Says

CHANGES: tuple[tuple[str, Any], ...] = (
    ("learning_rate", 5.0),  # out of range: the refusal names the bounds
    ("learning_rate", 1.0e-2),
    ("batch_size", 64),
    ("coeff_L2", 1.0e-2),
    ("learning_rate", 3.0e-2),
    ("replicate", None),
    ("batch_size", 4),
    ("coeff_L2", 1.0e-4),
    ("learning_rate", 3.0e-3),
    ("replicate", None),
    ("coeff_L2", 1.0e-5),
    ("learning_rate", 6.0e-3),
    ("batch_size", 16),
    ("learning_rate", 5.0e-2),
    ("coeff_L2", 3.0e-2),
)
"""Tried in this order; what is refused is passed over."""


class DemoScript:
    """Answers one request after another; remembers only how far down the list it is."""

    def __init__(self, changes: tuple[tuple[str, Any], ...] = CHANGES) -> None:
        self._changes = changes
        self._next = 0
        self._beside = 0
        self._calls = 0

    def __call__(self, body: dict[str, Any], number: int) -> Says:
        """Return the reply to a request of the Messages API."""
        task = _Task(body)
        said = sum(m["role"] == "assistant" for m in body["messages"])
        if said == 0:
            return self._says("I read the working memory and the facts of this turn first.", self._look(task))
        if _refusal(body):
            return self._says(f"That was refused: {_refusal(body)[:120]}", self._mend(task))
        if said == 1:
            return self._says("The log and the plot are read. Now the draft.", self._fill(task))
        return self._says("The draft is complete.", [self._submit(task)])

    def _says(self, text: str, calls: list[tuple[str, dict[str, Any]]]) -> Says:
        blocks: list[Block] = [{"type": "thinking", "thinking": text}, {"type": "text", "text": text}]
        for name, given in calls:
            self._calls += 1
            blocks.append({"type": "tool_use", "id": f"toolu_demo_{self._calls:04d}", "name": name, "input": given})
        return Says(content=tuple(blocks), stop_reason="tool_use")

    def _look(self, task: _Task) -> list[tuple[str, dict[str, Any]]]:
        calls: list[tuple[str, dict[str, Any]]] = [("view_file", {"name": "memory.md"})]
        for iteration in task.judged[-1:]:
            calls.append(("view_file", {"name": f"iter {iteration}"}))
            calls += [("view_plot", {"iteration": iteration, "plot": plot}) for plot in task.plots(iteration)[:1]]
        return calls

    def _fill(self, task: _Task) -> list[tuple[str, dict[str, Any]]]:
        calls: list[tuple[str, dict[str, Any]]] = []
        for slot in task.slots:
            calls += self._plan(task, slot)
        section = "Hypothesis" if not task.judged else "Emerging Observations"
        lines = ["A step size that is too small leaves the fit unfinished."]
        calls.append(("write_memory_section", {"section": section, "lines": lines}))
        if len(task.finished) >= 3:
            text = "The step size decides how far the fit gets within the budget"
            given = {"text": text, "support": task.finished[:3], "against": [], "replaces": task.principles}
            calls.append(("add_principle", given))
        if task.ends:
            calls += self._end(task)
        return calls

    def _plan(self, task: _Task, slot: int) -> list[tuple[str, dict[str, Any]]]:
        if task.best is None:
            return [("choose_parent", {"slot": slot, "parent": "root", "second_parent": None}), *self._root(task, slot)]
        key, value = self._changes[self._next % len(self._changes)]
        self._next += 1
        if key == "replicate":
            return [("replicate", {"slot": slot, "node": task.best, "seed": "training"})]
        chosen = {"slot": slot, "parent": task.best, "second_parent": None}
        return [("choose_parent", chosen), ("set_hyperparameter", {"slot": slot, "key": key, "value": value})]

    def _root(self, task: _Task, slot: int) -> list[tuple[str, dict[str, Any]]]:
        """Return the change beside the block's first run: that one is the baseline."""
        if not task.finished and slot == task.slots[0] and task.begins:
            return []
        self._beside += 1
        key, value = [c for c in self._changes[1:] if c[0] != "replicate"][self._beside - 1]
        return [("set_hyperparameter", {"slot": slot, "key": key, "value": value})]

    def _mend(self, task: _Task) -> list[tuple[str, dict[str, Any]]]:
        if task.ends:
            return self._end(task)
        return [call for slot in task.slots for call in self._plan(task, slot)] or [self._submit(task)]

    def _end(self, task: _Task) -> list[tuple[str, dict[str, Any]]]:
        row = {
            "op": "change",
            "strategy": "exploit",
            "condition": "Default",
            "action": f"Small step from the node with the best UCB; the step size first (block {task.ends})",
            "reason": "the step size moved the primary metric most",
        }
        end = {
            "summary": ["The step size decided most; the other keys moved little."],
            "regime": "",
            "focus": "the step size again, then the penalty",
            "focus_keys": ["learning_rate"],
            "hypothesis": "a larger step size helps until the runs diverge",
        }
        return [("edit_strategy_row", row), ("end_block", end)]

    def _submit(self, task: _Task) -> tuple[str, dict[str, Any]]:
        observations = [
            {
                "iteration": i,
                "observation": "a scripted remark: compare the figures above with the parent's",
                "visual": [],
            }
            for i in task.judged
        ]
        for said in observations[-1:]:
            said["visual"] = [
                {"label": "fit", "plot": p, "text": "learned against true weights"}
                for p in task.plots(task.judged[-1])[:1]
            ]
        plans = [
            {
                "slot": slot,
                "strategy": "exploit",
                "parent_rule": "the best node so far" if task.best is not None else "no nodes yet: parent=root",
                "hypothesis": "a scripted guess: this key alone moves the primary metric",
            }
            for slot in task.slots
        ]
        acknowledged = ["kept in mind"] * task.asked
        return "submit", {"observations": observations, "proposals": plans, "acknowledged": acknowledged}


class _Task:
    """What the first message of a conversation asks for."""

    def __init__(self, body: dict[str, Any]) -> None:
        content = body["messages"][0]["content"]
        text = content if isinstance(content, str) else "".join(b.get("text", "") for b in content)
        self._text = text
        head = text.partition("## memory.md")[0]
        judge = re.search(r"Judge: iterations? ([\d, ]+)\.", head)
        self.judged = [int(n) for n in judge[1].split(",")] if judge else []
        self.slots = [int(n) for n in re.findall(r"in slot (\d+)", head)]
        self.begins = "first run is its baseline" in head
        ends = re.search(r"Block (\d+) is complete", head)
        self.ends = int(ends[1]) if ends else 0
        history = text.partition("## History of this block")[2].partition("\n## ")[0]
        self.finished = [int(n) for n in re.findall(r"^\| (\d+) \|", history, re.M)]
        scored = re.findall(r"^Node (\d+): UCB=\S+, .*?R2=([-\d.]+)", text, re.M)
        self.best = max(scored, key=lambda s: float(s[1]), default=(None, ""))[0]
        self.best = int(self.best) if self.best is not None else None
        self.principles = [int(n) for n in re.findall(r"^- P(\d+)", text, re.M)]
        self.asked = len(re.findall(r"^- .*: not acknowledged yet$", text, re.M))

    def plots(self, iteration: int) -> list[str]:
        """Return the plots of an iteration to be judged."""
        part = self._text.partition(f"### Iteration {iteration}:")[2].partition("\n### Iteration")[0]
        found = re.search(r"^Plots: (.+)$", part, re.M)
        return found[1].split(", ") if found else []


def _refusal(body: dict[str, Any]) -> str:
    """Return what the last message refuses, "" when it refuses nothing."""
    content = body["messages"][-1]["content"]
    for block in content if isinstance(content, list) else []:
        if block.get("is_error"):
            said = block.get("content")
            return said if isinstance(said, str) else json.dumps(said)
    return ""
