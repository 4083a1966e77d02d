"""The sparse exploration at its own size: where it starts, and that its ranges hold a solution in each regime."""

from pathlib import Path

import pytest
import torch
import yaml

from trainers.data import load_signal
from trainers.prepare.build import prepare
from trainers.run import Run
from trainers.scoring.metrics import load_truth, score_estimate
from trainers.settings import Reader, load_yaml, read_config
from trainers.signal import data_train_signal, estimates

START = Path(__file__).resolve().parents[2] / "explorations" / "sparse_gnn" / "config.yaml"
EXPLORATION = load_yaml((START.parent / "exploration.yaml").read_text())
BUDGET = EXPLORATION["profiles"]["cpu"]
FOUND = {"learning_rate_W_start": 1e-2, "coeff_edge_diff": 100.0, "n_epochs_init": 1, "coeff_W_L1": 1e-3}
"""Four single-key moves inside the instruction's ranges."""
DENSE = FOUND | {"learning_rate_start": 3.2e-4, "n_epochs_init": 2, "coeff_W_L1": 1e-5}
"""What is found where W is larger or not sparse: faster functions, no pressure on W."""


CHAOTIC = {"name": "chaotic-100", "simulation": {"connectivity_type": "chaotic", "n_neurons": 100,
                                                 "connectivity_filling_factor": 1.0}}  # fmt: skip
"""Every entry of W is there: a regime of the same family and budget that the exploration does not go through."""


def regime(folder, name, draw):
    """Return a function: training keys -> metrics of a training on a regime's draw with these keys changed."""
    declared = next(r for r in (*EXPLORATION["regimes"], CHAOTIC) if r["name"] == name)
    budget = BUDGET | declared.get("profiles", {}).get("cpu", {})
    config = load_yaml(START.read_text())
    del config["claude"]
    config["simulation"] |= declared["simulation"] | {"seed": draw}
    config["simulation"] |= {k.partition(".")[2]: v for k, v in budget.items() if k.startswith("simulation.")}
    config["training"]["data_augmentation_loop"] = budget["claude.data_augmentation_loop"]
    spec = {"contract": 1, "system": "signal", "profile": "cpu", "regime": name, "config": config}
    (folder / "SPEC.yaml").write_text(yaml.safe_dump(spec))
    prepare(folder / "SPEC.yaml", folder / "data")
    data, inputs = load_signal(folder / "data" / "train", folder / "data" / "inputs")
    truth = load_truth(folder / "data")
    torch.set_num_threads(1)

    def metrics(**keys):
        changed = read_config("signal", config | {"training": config["training"] | keys})
        run = Run(folder / "-".join(["run", *keys]))
        model = data_train_signal(Reader(changed), data, inputs, run)
        return score_estimate({k: v.detach().numpy() for k, v in estimates(model, inputs).items()}, truth)

    return metrics


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    return regime(tmp_path_factory.mktemp("sparse"), "sparse-100", 42)


@pytest.mark.science
def test_iteration_1_leaves_something_to_explore(sparse):
    assert 0.5 < sparse()["connectivity_R2"] < 0.9


@pytest.mark.science
def test_the_ranges_hold_a_recovery(sparse):
    found = sparse(**FOUND)
    assert found["connectivity_R2"] > 0.995
    assert found["connectivity_R2_strict"] > 0.98
    assert found["support_AUC"] > 0.95


@pytest.mark.science
@pytest.mark.parametrize(("name", "draw"), [("sparse-200", 42), ("low-rank-100", 43)])
def test_the_ranges_hold_a_recovery_in_other_regimes(tmp_path, name, draw):
    """low-rank-200 is left out: one config gave 0.70, 0.77 and 0.995 at three training seeds."""
    assert regime(tmp_path, name, draw)(**DENSE)["connectivity_R2"] > 0.95


LOW_RANK = FOUND | {"coeff_W_L1": 1e-4, "coeff_edge_diff_phase2": 100.0}


@pytest.mark.science
@pytest.mark.parametrize(("name", "keys"), [("chaotic-100", DENSE), ("low-rank-100", LOW_RANK)])
def test_dense_and_low_rank_networks_reach_the_target(tmp_path, name, keys):
    """Draw 43 of both: 42 has a condition number of 4.6e3 and 4.6e4, and the rule `draws` replaces it."""
    assert regime(tmp_path, name, 43)(**keys)["connectivity_R2"] >= 0.995
