"""Code edits for tests: proposed and run by hand in a `tests.factory.Driver`."""

from orchestrator.core import configs
from orchestrator.core.events import Turned
from orchestrator.core.records import CodeChange, CodeEdit, Metric, Mutation, Proposal, Reflection, Turn


def change(name="a", text="clip the gradient", **fields):
    """Return a code change; equal names are the same edit."""
    edit = CodeEdit(path="trainers/signal.py", unit="data_train_signal", added=3, removed=1, sha=name)
    fields = {"change": text, "edits": (edit,), "commit": f"{name:0>2}".encode().hex().ljust(40, "0")} | fields
    return CodeChange(**fields)


def propose(driver, code, parent=1, *, seeds=(7, 42), hypothesis="by hand", strategy="code-modification", base=None,
            tree=None):  # fmt: skip
    """Propose a code edit of a node's code; return its number."""
    state = driver.state
    iteration = state.last_iteration + 1
    base = parent if parent is not None else base
    proposal = Proposal(
        iteration=iteration,
        parent=parent,
        base=base,
        mutation=Mutation(kind="code", code=code),
        config_sha=configs.idea_sha(state.base_config(base, state.block_of(iteration))),
        code=tree or f"tree{iteration}",
        training_seed=seeds[0],
        simulation_seed=seeds[1],
        strategy=strategy,
        parent_rule="by hand",
        hypothesis=hypothesis,
    )
    driver.add(Turned(turn=Turn(turn=len(state.turns) + 1, based_on=state.seq, scientist="hand",
                                proposals=(proposal,))))  # fmt: skip
    return iteration


def edit(driver, value=None, parent=1, *, name=None, outcome="ok", metrics=None, ended=None, seeds=(7, 42),
         strategy="code-modification", **fields):  # fmt: skip
    """Propose a code edit, end its run and return its number; `fields` are the change's, `ended` the run's."""
    name = name or f"edit{driver.state.last_iteration + 1}"
    iteration = propose(driver, change(name, **fields), parent, seeds=seeds, strategy=strategy)
    found = {n: Metric(value=v) for n, v in ((metrics or {}) | {"connectivity_R2": value}).items() if v is not None}
    driver.end(iteration, outcome=outcome, metrics=found, **(ended or {}))
    return iteration


def again(driver, node, value, seed, simulation=42, **fields):
    """Run a node again with its own code; return the iteration."""
    code = driver.state.nodes[node].code
    return driver.put(value, of=node, seeds=(seed, simulation), code=code, **fields)


def reflect(driver, *iterations):
    """Let the scientist judge iterations."""
    said = tuple(Reflection(iteration=i, observation="seen", next_parent=None) for i in iterations)
    state = driver.state
    driver.add(Turned(turn=Turn(turn=len(state.turns) + 1, based_on=state.seq, scientist="hand", reflections=said)))
