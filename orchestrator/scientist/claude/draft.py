"""The turn in the making: what the tool calls of one conversation edit, and how it becomes a `Turn`.

Every operation either changes the draft and says what it did, or raises RefusedError and changes nothing. Only what
`submit` returns becomes an event.
"""

from __future__ import annotations

from orchestrator.core import block_keys, strategy_kinds, tree, turns
from orchestrator.core.boundary import check_end, check_rules
from orchestrator.core.diagnosis import gap, untrusted
from orchestrator.core.records import Boundary, Principle, Proposal, Reflection, RuleEdit, Turn, Visual
from orchestrator.core.state import State
from orchestrator.errors import RefusedError
from orchestrator.ports import CodeOffice
from orchestrator.scientist.claude import block_changes, prose, tools
from orchestrator.scientist.claude.plans import Plans
from orchestrator.scientist.offline import fillers

MAX_PRINCIPLES = 24
SECTION_LINES: dict[str, int] = {"Open Questions": 20, "Hypothesis": 2, "Emerging Observations": 30}


class Draft:
    """One turn in the making, over the state as the conversation saw it."""

    def __init__(self, state: State, n: int, code: CodeOffice | None = None) -> None:
        self.state, self.asked = state, n
        self._based_on = state.seq  # now: refusals and costs of the conversation come after it
        self.plans = Plans(state, n, code)
        self.principles: dict[int, Principle] = dict(enumerate(state.principles, 1))
        """By number: those of the prompt keep theirs, whatever is replaced."""
        self.rules: list[RuleEdit] = []
        self.end: Boundary | None = None
        self.sections: dict[str, tuple[str, ...]] = {}
        self.viewed: set[tuple[int, str]] = set()
        """(iteration, plot) that were looked at."""
        self.plots: dict[int, tuple[str, ...]] = {}
        """Of each iteration to be judged; a Visual note is not asked for where there are none."""

    # Memory

    def write_memory_section(self, call: tools.WriteMemorySection) -> str:
        """Replace the content of a section."""
        most = min(SECTION_LINES[call.section], max(2, self.state.contract.memory_cap_lines // 5))
        if not any(text.strip() for text in call.lines):
            raise RefusedError(
                f"an empty {call.section} refused: a section is rewritten, not deleted; say what holds now, or leave it"
            )
        found = prose.lines(call.lines, call.section, most)
        if call.section != "Hypothesis":
            prose.check_figures(self.state, found, call.section)
        self.sections[call.section] = found
        return f"{call.section}: {len(found)} line(s)"

    def add_principle(self, call: tools.AddPrinciple) -> str:
        """Add a principle; says whether it is established."""
        text = prose.line(call.text, "principle")
        prose.check_figures(self.state, [text], "principle")
        if not call.support:
            raise RefusedError("a principle without support refused: cite the finished iterations that show it")
        regime = self._cited([*call.support, *call.against])
        both = set(call.support) & set(call.against)
        if both:
            raise RefusedError(
                f"iteration {min(both)} refused: it is cited for the principle and against it; keep it on one side"
            )
        bad = [i for i in call.replaces if i not in self.principles]
        if bad:
            known = f"principles are {', '.join(f'P{i}' for i in self.principles)}"
            told = known if self.principles else "there are no principles yet"
            raise RefusedError(f"replaces {bad[:8]} refused: {told}; [] replaces none")
        kept = {i: p for i, p in self.principles.items() if i not in call.replaces and p.text != text}
        if len(kept) >= MAX_PRINCIPLES:
            raise RefusedError(f"principle refused: there are {MAX_PRINCIPLES} already; replace or merge some")
        support, against = (tuple(sorted(set(ids))) for ids in (call.support, call.against))
        made = Principle(text=text, regime=regime, support=support, against=against)
        number = max(self.principles, default=0) + 1
        self.principles = kept | {number: made}
        return self._standing(f"P{number}", made)

    def _standing(self, name: str, principle: Principle) -> str:
        """Return where memory.md shows a principle, and why."""
        needed = self.state.contract.principle_support
        if principle.against:
            return f"{name} stands under Open Questions: iterations {list(principle.against)} are against it"
        if len(principle.support) < needed:
            return f"{name} stands under Open Questions: {len(principle.support)} of {needed} iterations show it"
        return f"{name} is established by {len(principle.support)} iterations"

    def _cited(self, cited: list[int]) -> str:
        """Return the regime of cited iterations; raises RefusedError unless they are finished and of one regime."""
        done = {it.proposal.iteration: it for it in self.state.done}
        for i in cited:
            if i not in done:
                finished = ", ".join(map(str, sorted(done)[-20:])) or "none yet"
                raise RefusedError(f"iteration {i} refused: there is no such finished iteration; finished: {finished}")
        regimes = {self.state.regime_name(done[i].block) for i in cited}
        if len(regimes) > 1:
            told = ", ".join(sorted(regimes))
            raise RefusedError(
                f"iterations of regimes {told} refused: a principle is of one regime; cite iterations of one of them"
            )
        return regimes.pop()

    # A block's end

    def edit_strategy_row(self, call: tools.EditStrategyRow) -> str:
        """Edit one row of the strategy table."""
        self._at_end("edit_strategy_row")
        name, reason = prose.line(call.strategy, "strategy", 60), prose.line(call.reason, "reason")
        prose.check_figures(self.state, [reason], "reason")
        cells = [""] * 2 if call.op == "remove" else [call.condition, call.action]
        if call.op != "remove":
            cells = [prose.line(text, what) for text, what in zip(cells, ("condition", "action"), strict=True)]
        if "|" in name + "".join(cells):
            raise RefusedError(f"row {name} refused: a cell of a table is one line without `|`; say `or`, or a comma")
        added = any(r.op == "add" and r.strategy == name for r in self.rules)
        op = "add" if added and call.op == "change" else call.op
        edit = RuleEdit(op=op, strategy=name, condition=cells[0], action=cells[1], reason=reason)
        rules = [*(r for r in self.rules if r.strategy != name), edit]  # the last word on a row holds
        check_rules(self.state, tuple(rules))
        row = next((r for r in self.state.strategies if r.name == name), None)
        if call.op == "change" and row is not None and [row.condition, row.action] == cells:
            raise RefusedError(f"change of {name} refused: the row reads so already; change its condition or action")
        self.rules = rules
        known = call.op == "remove" or strategy_kinds.kind_of(name, edit.condition) is not None
        return f"row {name}: {call.op}" + (
            "" if known else "; no predicate has this name: it is shown, never triggered"
        )

    def end_block(self, call: tools.EndBlock) -> str:
        """Say what the block showed and what the next one is for."""
        self._at_end("end_block")
        assert self.state.closing is not None
        summary = prose.lines(call.summary, "summary", 3)
        prose.check_figures(self.state, summary, "summary")
        reason = prose.line(call.changes_reason, "changes_reason") if call.changes_reason.strip() else ""
        prose.check_figures(self.state, [reason], "changes_reason")
        end = Boundary(
            block=self.state.closing,
            summary=summary,
            regime=call.regime,
            focus=prose.line(call.focus, "focus"),
            focus_keys=tuple(self.plans.rule(key).key for key in call.focus_keys),
            hypothesis=prose.line(call.hypothesis, "hypothesis"),
            changes=block_changes.made(self.state, self.state.closing, call.changes),
            changes_reason=reason,
        )
        check_end(self.state, end)
        self.end = end
        values = block_keys.told(self.state.contract, {change.key: change.new for change in end.changes})
        return f"block {end.block} ends; the next one{f' with {values}' if values else ''}: {end.focus}"

    def _at_end(self, tool: str) -> None:
        if self.state.closing is None:
            raise RefusedError(
                f"{tool} refused: no block is complete now, the rules hold until one is; go on with submit"
            )

    # The turn

    def submit(self, call: tools.Submit) -> Turn:
        """Return the turn; raises RefusedError when a part is missing or breaks a rule."""
        if self.plans.edits_code:  # a trial takes its time: what may be refused without one goes first
            self._reflections(call, ())
            self._acknowledged(call)
        proposals = self.plans.proposals(call.proposals)
        turn = Turn(
            turn=len(self.state.turns) + 1,
            based_on=self._based_on,
            asked=self.asked,
            scientist="claude",
            reflections=self._reflections(call, proposals),
            proposals=(*proposals, *self._fillers(proposals)),
            emerging=self.sections.get("Emerging Observations", self._before()),
            questions=self.sections.get("Open Questions"),
            hypothesis=" ".join(self.sections.get("Hypothesis", ())),
            principles=tuple(self.principles.values()),
            acknowledged=self._acknowledged(call),
            boundary=self._boundary(),
        )
        turns.check(self.state, turn, self.asked)
        return turn

    def _before(self) -> tuple[str, ...]:
        return self.state.turns[-1].emerging if self.state.turns else ()

    def _fillers(self, regular: tuple[Proposal, ...]) -> list[Proposal]:
        return [] if self.state.closing is not None else fillers(self.state, self.asked, regular)

    def _reflections(self, call: tools.Submit, proposals: tuple[Proposal, ...]) -> tuple[Reflection, ...]:
        due = [it.proposal.iteration for it in self.state.unreflected]
        said = sorted(o.iteration for o in call.observations)
        extra = [i for i in said if i not in due]
        if extra:
            told = f"to be judged are {due}" if due else "nothing is to be judged"
            raise RefusedError(f"observation of iteration {extra[0]} refused: {told}")
        if said != due:
            missing = [i for i in due if i not in said]
            why = f"iteration {missing[0]} has no observation" if missing else "an iteration has two observations"
            raise RefusedError(f"submit refused: {why}; one for each of {due}")
        ranked = tree.scores(self.state, self.state.block_of(max(self.state.last_iteration, 1)))
        leader = proposals[0].parent if proposals else ranked[0].node if ranked else None
        return tuple(self._reflection(o, leader) for o in sorted(call.observations, key=lambda o: o.iteration))

    def _reflection(self, said: tools.Observation, leader: int | None) -> Reflection:
        contract, it = self.state.contract, self.state.iterations[said.iteration]
        what = f"observation of iteration {said.iteration}"
        text = prose.line(said.observation, what)
        prose.check_figures(self.state, [text], what)
        if untrusted(contract, it) and "degenera" not in text.lower():
            raise RefusedError(
                f"{what} refused: its degeneracy gap is {gap(contract, it):.2f}, so the metrics of the dynamics are no "
                "evidence; say in it what the degeneracy means here"
            )
        seen = tuple(self._visual(said.iteration, note) for note in said.visual)
        wanted = contract.log_visual if it.outcome == "ok" and self.plots.get(said.iteration) else ()
        missing = [label for label in wanted if label not in [v.label for v in seen]]
        if missing:
            raise RefusedError(
                f"{what} refused: the log form asks for a Visual note on each of {', '.join(wanted)}; missing: "
                f"{', '.join(missing)}. Its plots: {', '.join(self.plots[said.iteration][:8])}; two notes may name one "
                "plot, once it was looked at with view_plot"
            )
        return Reflection(iteration=said.iteration, observation=text, next_parent=leader, visual=seen)

    def _visual(self, iteration: int, note: tools.VisualNote) -> Visual:
        if (iteration, note.plot) not in self.viewed:
            seen = ", ".join(f"{p} of iteration {i}" for i, p in sorted(self.viewed)) or "none"
            raise RefusedError(
                f"visual note on {note.plot[:80]!r} of iteration {iteration} refused: it was not looked at in this "
                f"conversation; looked at: {seen}; call view_plot first"
            )
        label, text = prose.line(note.label, "label", 60), prose.line(note.text, "visual note")
        prose.check_figures(self.state, [text], "visual note")
        return Visual(label=label, plot=note.plot, text=text)

    def _acknowledged(self, call: tools.Submit) -> tuple[str, ...]:
        asked = self.state.contract.user_instructions
        before: tuple[str, ...] = next((t.acknowledged for t in reversed(self.state.turns) if t.acknowledged), ())
        if not call.acknowledged and len(before) == len(asked):
            return ()
        if len(call.acknowledged) != len(asked):
            texts = "; ".join(f"({i}) {item.text}" for i, item in enumerate(asked, 1)) or "there are none, so []"
            raise RefusedError(
                f"submit refused: {len(call.acknowledged)} acknowledgements of {len(asked)} user instructions: {texts}"
            )
        said = tuple(prose.line(text, "acknowledgement") for text in call.acknowledged)
        for text, item in zip(said, asked, strict=True):
            prose.check_figures(self.state, [text], "acknowledgement", given=item.text)
        return said

    def _boundary(self) -> Boundary | None:
        closing = self.state.closing
        if closing is None:
            return None
        if self.end is None:
            raise RefusedError(f"submit refused: block {closing} is complete; call end_block first")
        if not self.rules and self.state.strategies:
            raise RefusedError(
                "submit refused: the instruction edit is compulsory at a block's end; call edit_strategy_row with what "
                f"block {closing} showed"
            )
        return self.end.model_copy(update={"rules": tuple(self.rules)})
