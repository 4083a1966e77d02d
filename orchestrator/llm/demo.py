"""The script of `make demo`: a few rules that answer like a model would, over the Messages API on this machine.

Nothing here is a language model. The replies are scripted: they read the turn's task from the prompt, look at a log and
a plot, change one key after another by a fixed list, run into the rules twice, and hand the turn in. They show the path
that a real model takes: prompts, tools, refusals, costs, memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from orchestrator.core.dialogue import Block
from orchestrator.llm.answers import Says

CHANGES: tuple[tuple[str, Any], ...] = (
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
"""Iteration 2 makes the first of these, and so on; after a refusal a later one is tried."""
OUT_OF_RANGE = {3: ("learning_rate", 5.0)}
"""Iteration -> what is tried first there, to show a refusal."""
Calls = list[tuple[str, dict[str, Any]]]


class DemoScript:
    """Answers requests; a function of the request alone, so that a conversation can be gone through again."""

    def __init__(
        self,
        changes: tuple[tuple[str, Any], ...] = CHANGES,
        wrong: Mapping[int, tuple[str, Any]] = OUT_OF_RANGE,
        parameter: str = "learning_rate",
    ) -> None:
        self._changes, self._wrong, self._parameter = changes, wrong, parameter

    def __call__(self, body: dict[str, Any], number: int) -> Says:
        """Return the reply to a request of the Messages API."""
        task = _Task(body)
        if task.replies == 0:
            return _says("I read the working memory and the facts of this turn first.", self._look(task))
        if task.refusal:
            return _says("That was refused. Something within the rules instead.", self._mend(task))
        if task.replies == 1:
            return _says("What I asked for is read. Now the draft.", self._fill(task))
        return _says("The draft is complete.", [self._submit(task)])

    def _look(self, task: _Task) -> Calls:
        calls: Calls = [] if task.judged else [("view_file", {"name": "config.yaml"})]
        for iteration in task.judged[-1:]:
            calls.append(("view_file", {"name": f"iter {iteration}"}))
            calls += [("view_plot", {"iteration": iteration, "plot": plot}) for plot in task.plots(iteration)[:1]]
        return calls

    def _fill(self, task: _Task) -> Calls:
        calls = [call for slot in task.slots for call in self._plan(task, slot)]
        section = "Emerging Observations" if task.judged else "Hypothesis"
        lines = ["A step size that is too small leaves the fit unfinished."]
        calls.append(("write_memory_section", {"section": section, "lines": lines}))
        if task.judged and not task.slots:
            lines = ["Is the penalty needed at all?"]
            calls.append(("write_memory_section", {"section": "Open Questions", "lines": lines}))
        if len(task.finished) >= 3:
            text = "The step size decides how far the fit gets within the budget"
            given = {"text": text, "support": task.finished[:3], "against": [], "replaces": task.principles}
            calls.append(("add_principle", given))
        return calls + (self._end(task) if task.ends else [])

    def _plan(self, task: _Task, slot: int) -> Calls:
        iteration = task.slots[slot]
        key, value = self._changes[(iteration - 2 + 4 * task.refusals) % len(self._changes)]
        if iteration in self._wrong and not task.refusals:
            key, value = self._wrong[iteration]
        if task.best is None and task.begins and slot == min(task.slots):
            return [("choose_parent", {"slot": slot, "parent": "root", "second_parent": None})]
        if key == "replicate" and task.best is not None:
            return [("replicate", {"slot": slot, "node": task.best, "seed": "training"})]
        if key == "replicate":
            key, value = self._changes[0]
        parent: int | str = "root" if task.best is None else task.best
        chosen = {"slot": slot, "parent": parent, "second_parent": None}
        return [("choose_parent", chosen), ("set_hyperparameter", {"slot": slot, "key": key, "value": value})]

    def _mend(self, task: _Task) -> Calls:
        return self._fill(task) if task.slots or task.ends else [self._submit(task)]

    def _end(self, task: _Task) -> Calls:
        row = {
            "op": "change",
            "strategy": "exploit",
            "condition": "Default",
            "action": f"Small step from the node with the best UCB; the step size first (block {task.ends})",
            "reason": "the step size moved the primary metric most",
        }
        end = {
            "summary": ["The step size decided most; the other keys moved little."],
            "regime": task.regime,
            "focus": "the step size again, then the penalty",
            "focus_keys": [self._parameter],
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
        found = re.findall(r"^Propose: iteration (\d+) .*in slot (\d+)", head, re.M)
        self.slots = {int(slot): int(iteration) for iteration, slot in found}
        self.begins = "first run is its baseline" in head
        ends = re.search(r"Block (\d+) is complete", head)
        self.ends = int(ends[1]) if ends else 0
        history = text.partition("## History of this block")[2].partition("\n## ")[0]
        self.finished = [int(n) for n in re.findall(r"^\| (\d+) \|", history, re.M)]
        regimes = re.search(r"Declared regimes: ([^,;]+)", head)
        self.regime = regimes[1] if regimes and not regimes[1].startswith("none") else ""
        scored = re.findall(r"^Node (\d+): UCB=\S+, .*?R2=(-?\d[\d.]*)", text, re.M)
        best = max(scored, key=lambda found: float(found[1]), default=None)
        self.best = int(best[0]) if best else None
        self.principles = [int(n) for n in re.findall(r"^- P(\d+)", text, re.M)]
        self.replies = sum(m["role"] == "assistant" for m in body["messages"])
        self.refusal = _refused(body["messages"][-1])
        self.refusals = sum(bool(_refused(m)) for m in body["messages"])
        self.asked = len(re.findall(r"^- .*: not acknowledged yet$", text, re.M))

    def plots(self, iteration: int) -> list[str]:
        """Return the plots of an iteration to be judged."""
        part = self._text.partition(f"### Iteration {iteration}:")[2].partition("\n### Iteration")[0]
        found = re.search(r"^Plots: (.+)$", part, re.M)
        return found[1].split(", ") if found else []


def _says(text: str, calls: Calls) -> Says:
    blocks: list[Block] = [{"type": "thinking", "thinking": text}]
    blocks += [{"type": "tool_use", "name": name, "input": given} for name, given in calls]
    return Says(content=tuple(blocks), stop_reason="tool_use")


def _refused(message: dict[str, Any]) -> str:
    """Return what a message refuses, "" when it refuses nothing."""
    content = message["content"]
    for block in content if isinstance(content, list) else []:
        if block.get("is_error"):
            said = block.get("content")
            return said if isinstance(said, str) else json.dumps(said)
    return ""
