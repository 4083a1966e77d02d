"""The scientist behind the `Scientist` port that asks a language model, and the offline scientist where that fails."""

from __future__ import annotations

from orchestrator.core import code_rules, slots
from orchestrator.core.dialogue import Request
from orchestrator.core.events import Refused
from orchestrator.core.exploration import Budget, ModelSettings
from orchestrator.core.records import Turn
from orchestrator.core.state import State
from orchestrator.errors import NeedsPersonError
from orchestrator.ports import LanguageModel, Office
from orchestrator.scientist.claude import prompt, tools
from orchestrator.scientist.claude.calls import Caller, TurnSpentError, prompt_tokens
from orchestrator.scientist.claude.conversation import Conversation, GivenUpError
from orchestrator.scientist.claude.forecast import forecast, sentence, too_small
from orchestrator.scientist.claude.plans import Plans
from orchestrator.scientist.offline import OfflineScientist, fillers

NO_TURN = "Claude gave no usable turn ("
"""Begins the reason of a turn that was taken in its place after what was said."""
NOT_ASKED = "Claude was not asked further ("
"""Begins the reason of a turn that its cost ended."""


class ClaudeScientist:
    """Asks Claude for each turn: what to make of the finished runs, and what to run next."""

    name = "claude"
    patient = True

    def __init__(self, model: LanguageModel, settings: ModelSettings, budget: Budget) -> None:
        self._model, self._settings = model, settings
        self.budget = budget
        """In force from the next turn on; a person may change it while the engine runs."""
        self._office: Office | None = None
        self._told = False

    def attach(self, office: Office) -> None:
        """Take the journal and the files; settle what an earlier engine left open."""
        self._office = office
        self._caller(office, (0, 0, 0)).settle_open()

    def propose(self, state: State, n: int) -> Turn:
        """Return the turn that Claude hands in; of the offline scientist, marked, when none comes.

        Raises:
            NeedsPersonError: the total budget is used up, the service turned the request down or cannot be reached.
            calls.StoppedError: a person asked to stop.
        """
        assert self._office is not None
        if slots.full(state) is not None:
            return self._fillers(state, n)
        self._say_forecast(self._office, state)
        caller = self._caller(self._office, (len(state.turns) + 1, state.seq, n))
        try:
            return Conversation(state, n, self._settings, self._office, caller).run()
        except GivenUpError as error:
            return self.instead(state, n, f"{NO_TURN}{error})")
        except TurnSpentError as error:
            return self.instead(state, n, f"{NOT_ASKED}{error})")

    def _say_forecast(self, office: Office, state: State) -> None:
        """Say, once a session, how large the prefix is and what a turn will cost."""
        if self._told:
            return
        self._told = True
        block = Plans(state, 1).block
        prefix = Request(
            model=self._settings.name,
            max_tokens=self._settings.max_tokens,
            tools=tools.definitions(not code_rules.off(state)),
            system=prompt.system(state, block, self._settings.cache),
            messages=({"role": "user", "content": [{"type": "text", "text": "."}]},),
        )
        counted = self._model.count_tokens(prefix, office.image)
        tokens = counted if counted is not None else prompt_tokens(prefix)
        how = "as the service counts" if counted is not None else "at most, from its length"
        found = forecast(office.ledger(), self._settings, self.budget, tokens)
        if faulty := too_small(found, self.budget):
            raise NeedsPersonError(faulty)
        office.say(f"claude: the prefix of every prompt has {tokens} tokens ({how})")
        office.say(f"claude: {sentence(found, office.ledger(), self._settings, self.budget)}")

    def _fillers(self, state: State, n: int) -> Turn:
        """Return further runs of leaders in idle slots while a block's last runs go on: protocol, nothing is asked."""
        return Turn(
            turn=len(state.turns) + 1,
            based_on=state.seq,
            asked=n,
            scientist=self.name,
            proposals=tuple(fillers(state, n, ())),
            emerging=state.turns[-1].emerging if state.turns else (),
        )

    def _caller(self, office: Office, where: tuple[int, int, int]) -> Caller:
        return Caller(self._model, self._settings, self.budget, office, where)

    def instead(self, state: State, n: int, sentence: str) -> Turn:
        """Return the offline scientist's turn, marked, with what Claude has written in memory left as it is."""
        assert self._office is not None
        number = len(state.turns) + 1
        here = [r for r in self._office.ledger().refusals if r.turn == number]
        if not here or here[-1].reason != sentence:
            self._office.record(Refused(turn=number, attempt=len(here) + 1, scientist="claude", reason=sentence))
        turn = OfflineScientist().propose(state, n)
        before = next((t for t in reversed(state.turns) if t.scientist == self.name), None)
        reflections = tuple(
            r.model_copy(update={"observation": f"(offline scientist) {r.observation}"}) for r in turn.reflections
        )
        kept = {"emerging": before.emerging if before else turn.emerging, "principles": state.principles}
        return turn.model_copy(update={"instead": sentence, "reflections": reflections, **kept})
