import pytest

from tests.formats.samples import INSTRUCTION, build, line_of

TABLE = """\

| Condition | Strategy | Action |
|---|---|---|
| Default | **exploit** | Highest UCB |
| 3+ consecutive R2 >= 0.9 | **failure-probe** | Extreme |
"""
FILES = """\

| File | Permission |
|---|---|
| `src/NeuralGraph/models/graph_trainer.py` | **ONLY modify `data_train_signal` function** |
| `src/NeuralGraph/models/Signal_Propagation.py` | Can modify if necessary |
| `models/mlp.py` | when needed |
"""


def test_strategy_rows():
    text = INSTRUCTION + TABLE
    found = build(instruction=text).contract.strategies
    assert [(r.name, r.condition, r.action) for r in found] == [
        ("exploit", "Default", "Highest UCB"), ("failure-probe", "3+ consecutive R2 >= 0.9", "Extreme")
    ]  # fmt: skip
    assert found[1].source == f"small.md:{line_of(text, 'failure-probe')}"


def test_too_many_rows_and_a_name_twice_stop():
    many = "".join(f"| Default | **exploit-{i}** | x |\n" for i in range(29))
    (found,) = build(instruction=INSTRUCTION + TABLE + many).stops
    assert "31 strategy rows, at most 30" in found.text
    assert found.where == f"small.md:{line_of(INSTRUCTION + TABLE + many, 'exploit-28')}"
    (found,) = build(instruction=INSTRUCTION + TABLE + "| Later | **exploit** | x |\n").stops
    assert "a row of that name stands in small.md:" in found.text


def test_scopes():
    text = INSTRUCTION + FILES
    found = build(instruction=text).contract.scopes
    assert [(s.path, s.function) for s in found] == [
        ("trainers/signal.py", "data_train_signal"), ("models/signal.py", None), ("models/mlp.py", None)
    ]  # fmt: skip
    assert found[0].source == f"small.md:{line_of(text, 'graph_trainer')}"


def test_front_matter_maps_code():
    front = '---\ncode: {"src/NeuralGraph/models/graph_trainer.py::data_train_signal": "trainers/other.py::f"}\n---\n'
    assert build(instruction=front + INSTRUCTION + FILES).contract.scopes[0].path == "trainers/other.py"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("GNN_PlotFigure.py", "never editable"),
        ("src/GNN_LLM_parallel.py", "never editable"),
        ("GNN_recurrent.py", "never editable"),
        ("trainers/scoring/metrics.py", "is refused: only .py files of models/ and trainers/"),
        ("trainers/prepare/guard.py", "is refused"),
        ("trainers/./prepare/guard.py", "is refused"),
        ("models/../orchestrator/cli.py", "is refused"),
        ("orchestrator/cli.py", "is refused"),
        ("/models/mlp.py", "is refused"),
        ("trainers/schema.json", "is refused"),
        ("setup.cfg", "is refused"),
    ],
)
def test_a_path_that_is_refused(path, message):
    text = INSTRUCTION + FILES.replace("models/mlp.py", path)
    compiled = build(instruction=text)
    (told,) = compiled.problems
    assert message in told.text and told.where == f"small.md:{line_of(text, path)}" and not told.stops
    assert len(compiled.contract.scopes) == 2


def test_front_matter_cannot_open_what_is_closed():
    for ours, message in (("trainers/scoring/score.py", "is refused"), ("models/GNN_LLM.py", "never editable")):
        front = f"---\ncode: {{models/mlp.py: {ours}}}\n---\n"
        compiled = build(instruction=front + INSTRUCTION + FILES)
        assert [message in p.text for p in compiled.problems] == [True]
        assert len(compiled.contract.scopes) == 2


@pytest.mark.parametrize(
    "permission", ["maybe", "only the good parts", "when needed?", "can modify, but not forward", "see `forward`"]
)
def test_an_unclear_permission_stops(permission):
    text = INSTRUCTION + FILES.replace("when needed", permission)
    (found,) = build(instruction=text).stops
    assert "does not say for certain" in found.text and found.where == f"small.md:{line_of(text, 'mlp.py')}"


@pytest.mark.parametrize("permission", ["never", "do not modify", "read-only"])
def test_a_denied_file_is_no_scope(permission):
    compiled = build(instruction=INSTRUCTION + FILES.replace("when needed", permission))
    assert compiled.problems == () and len(compiled.contract.scopes) == 2


def test_figures_lie_below_plots():
    text = INSTRUCTION + "\nLook at `{log_dir}/tmp_training/loss.tif`, `plots/a/b_*.png` and `function/f.png`.\n"
    assert build(instruction=text).contract.figures == ("plots/loss.png", "plots/a/b_*.png", "plots/function/f.png")
