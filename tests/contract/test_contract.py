"""What both sides of docs/contract.md promise, held against the files that each side keeps."""

import ast
import json
import subprocess
import sys

import pytest

from orchestrator.core.schema import read_schema
from orchestrator.engine import opening
from tests import toy

REPOSITORY = toy.REPOSITORY


def imported(folder):
    """Top-level names that the modules of a package import anywhere."""
    names = set()
    for path in (REPOSITORY / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names


def test_engine_and_science_share_no_code():
    assert not imported("orchestrator") & {"models", "trainers", "torch"}
    assert not imported("models") & {"orchestrator", "trainers"}
    assert "orchestrator" not in imported("trainers")


def test_the_supervisor_needs_only_the_standard_library():
    for name in ("supervisor", "guard", "sandbox"):
        names = set()
        for node in ast.parse((REPOSITORY / "orchestrator" / "launch" / f"{name}.py").read_text()).body:
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").split(".")[0])
        assert names <= set(sys.stdlib_module_names), name


def test_the_command_line_starts_without_heavy_libraries():
    code = "import sys, orchestrator.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=toy.environment(), timeout=50
    )
    assert not {"torch", "anthropic", "matplotlib", "scipy", "git", "rich", "numpy"} & set(done.stdout.split())


def test_every_system_of_the_schema_is_readable_by_the_engine():
    data = json.loads((REPOSITORY / "trainers" / "schema.json").read_text())
    for name in data["systems"]:
        schema = read_schema(data, name)
        assert schema.metrics and schema.sections


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "explorations").glob("*/exploration.yaml")), ids=lambda p: p.parent.name
)
@pytest.mark.parametrize("profile", ["cpu", "full"])
def test_every_shipped_exploration_compiles(path, profile, tmp_path):
    setup = opening.load(REPOSITORY, path.parent.name, opening.Wishes(root=tmp_path, profile=profile))
    assert setup.contract.primary.name
    assert setup.contract.start["claude"]["n_iter_block"] == setup.contract.n_iter_block
    for rule in setup.contract.keys:
        section, name = rule.key.split(".")
        assert setup.contract.start[section][name] == rule.start, rule.key


def test_iteration_1_of_the_sparse_exploration_has_the_seeds_hyperparameters(tmp_path):
    for profile in ("cpu", "full"):
        setup = opening.load(REPOSITORY, "sparse_gnn", opening.Wishes(root=tmp_path, profile=profile))
        training, simulation = setup.contract.start["training"], setup.contract.start["simulation"]
        assert training["learning_rate_W_start"] == 3e-3 and training["learning_rate_start"] == 1e-4
        assert training["learning_rate_embedding_start"] == 2.5e-4 and training["coeff_W_L1"] == 1e-5
        assert training["coeff_edge_diff"] == 10000 and training["batch_size"] == 8
        assert training["n_epochs_init"] == 2 and training["first_coeff_L1"] == 0
        assert training["training_single_type"] is True
        assert (simulation["n_neurons"], simulation["connectivity_filling_factor"]) == (100, 0.5)
        assert simulation["connectivity_type"] == "chaotic"
