"""Small valid records for tests: a contract with three keys, and a journal driven by the offline scientist."""

from orchestrator.core import configs
from orchestrator.core.contract import Condition, Contract, KeyRule, MetricRule, VerdictRule
from orchestrator.core.events import Event, Opened, RunEnded, RunReserved, Session, Turned
from orchestrator.core.records import Change, Metric, Mutation, Proposal, Turn
from orchestrator.core.state import State
from orchestrator.scientist.offline import OfflineScientist

START = {
    "simulation": {"n_neurons": 10, "seed": 42},
    "training": {"learning_rate_W_start": 3e-3, "batch_size": 8, "coeff_W_L1": 1e-5, "seed": 7},
    "claude": {"n_epochs": 2, "data_augmentation_loop": 5, "n_iter_block": 6, "ucb_c": 1.414},
}


def contract(**changes):
    """Return a contract with two free keys and one frozen one."""
    keys = (
        KeyRule(key="training.learning_rate_W_start", short="lr_W", type="float", level="free", low=1e-4, high=1e-2,
                start=3e-3, source="test:1"),
        KeyRule(key="training.batch_size", short="batch_size", type="int", level="free", allowed=(8, 16, 32), start=8),
        KeyRule(key="training.coeff_W_L1", short="coeff_W_L1", type="float", level="free", low=1e-7, high=1e-3,
                start=1e-5),
        KeyRule(key="simulation.n_neurons", short="n_neurons", type="int", level="frozen", start=10, source="test:9"),
        KeyRule(key="training.seed", short="seed", type="int", level="free", start=7, exempt=True),
    )  # fmt: skip
    fields = {
        "exploration": "toy",
        "system": "signal",
        "title": "Toy",
        "goal": "find it",
        "keys": keys,
        "metrics": (
            MetricRule(name="connectivity_R2", role="primary"),
            MetricRule(name="test_R2", role="secondary"),
        ),
        "verdicts": (
            VerdictRule(name="converged", conditions=(Condition(metric="connectivity_R2", op=">", value=0.9),)),
            VerdictRule(name="partial", conditions=(Condition(metric="connectivity_R2", op=">=", value=0.1),)),
            VerdictRule(name="failed", conditions=()),
        ),
        "start": START,
        "n_iter_block": 6,
        "ucb_c": 1.414,
        "order": ("training.learning_rate_W_start", "training.coeff_W_L1"),
        "log_config": ("training.seed", "training.learning_rate_W_start", "training.batch_size"),
        "log_metrics": (("test_R2", "test_R2"), ("connectivity_R2", "connectivity_R2")),
    }
    return Contract.model_validate(fields | changes)


class Driver:
    """A journal in memory: folds what it appends, like the engine does."""

    def __init__(self, the_contract=None):
        self.state = State(the_contract or contract())
        self.events = []
        self.add(Opened(exploration="toy", contract_sha="c", contract={}, instruction="i", profile="cpu", device="cpu",
                        code="tree", seed=1, start=self.state.contract.start))  # fmt: skip
        self.add(Session(session=1, version="0", scientist="offline", launcher="l", slots=1, sandbox="none",
                         iterations=99))  # fmt: skip

    def add(self, body):
        """Append and fold one event."""
        event = Event(seq=len(self.events) + 1, at="2026-01-01T00:00:00Z", body=body)
        self.events.append(event)
        self.state.apply(event)

    def turn(self, n=1, scientist=None):
        """Take one turn of the offline scientist; a turn that ends a block is followed by the next one."""
        turn = (scientist or OfflineScientist()).propose(self.state, n)
        self.add(Turned(turn=turn))
        if turn.boundary is not None:
            return self.turn(n, scientist)
        return turn

    def end(self, iteration, value=None, outcome="ok", **fields):
        """Reserve and end a run with a primary metric."""
        attempt = len(self.state.iterations[iteration].attempts) + 1
        self.add(RunReserved(iteration=iteration, attempt=attempt, session=self.state.sessions))
        metrics = (
            {"connectivity_R2": value if isinstance(value, Metric) else Metric(value=value)}
            if value is not None
            else {}
        )
        fields = {"cause": outcome, "metrics": metrics} | fields
        self.add(RunEnded(iteration=iteration, attempt=attempt, session=1, outcome=outcome, **fields))

    def explore(self, iterations, score):
        """Run turns with `score(config) -> value` as the training."""
        while len(self.state.done) < iterations:
            turn = self.turn()
            for proposal in turn.proposals:
                self.end(proposal.iteration, score(self.state.config_of(proposal)))
            if not turn.proposals:
                break

    def put(self, value=None, *, parent=None, changes=(), strategy="exploit", code="tree", seeds=(7, 42), of=None,
            metrics=None, outcome="ok", idle=None, **ended):  # fmt: skip
        """Propose and end one iteration by hand; return its number.

        Args:
            value: primary metric.
            parent: node; None is root with the start's config.
            changes: (key, new value) pairs.
            strategy: as the proposal names it.
            code: tree sha.
            seeds: (training seed, simulation seed).
            of: node of which it is a replicate.
            metrics: other metrics, by name.
            outcome: of the run.
            idle: keys that could not act, with the reason.
            **ended: other fields of how the run ended.
        """
        state = self.state
        iteration = state.last_iteration + 1
        base = state.nodes[of].config if of else state.base_config(parent, state.block_of(iteration))
        made = tuple(Change(key=k, old=configs.get(base, k), new=v) for k, v in changes)
        kind = "replicate" if of else "config" if made or parent else "baseline"
        proposal = Proposal(
            iteration=iteration,
            parent=state.nodes[of].parent if of else parent,
            base=of or parent,
            mutation=Mutation(kind=kind, changes=made, replicate_of=of),
            config_sha=configs.idea_sha(configs.apply(base, made)),
            code=code,
            training_seed=seeds[0],
            simulation_seed=seeds[1],
            strategy=strategy,
            parent_rule="by hand",
            hypothesis="by hand",
        )
        self.add(Turned(turn=Turn(turn=len(state.turns) + 1, based_on=state.seq, scientist="hand",
                                  proposals=(proposal,))))  # fmt: skip
        found = {name: Metric(value=v) for name, v in (metrics or {}).items()}
        if value is not None:
            found["connectivity_R2"] = Metric(value=value)
        self.end(iteration, outcome=outcome, metrics=found, keys_idle=idle or {}, **ended)
        return iteration

    def ended(self):
        """Take the offline scientist's turn that ends a block."""
        turn = OfflineScientist().propose(self.state, 0)
        assert turn.boundary is not None
        self.add(Turned(turn=turn))
        return turn.boundary
