"""What `prepare` makes of a stoichiometry regime, and what its preflight says."""

import json

import numpy as np
import pytest

from tests.trainers.reacting import config, write_spec
from trainers.errors import RefusedError
from trainers.prepare.build import prepare
from trainers.prepare.metabolic_guard import guard, rates_of_functions
from trainers.prepare.reactions import draw_network, simulate_runs
from trainers.settings import read_config
from trainers.settings_metabolism import Metabolism

SEED_42 = {"-2": 262, "-1": 262, "1": 231, "2": 141, "3": 36, "4": 23, "5": 11, "6": 3}


def made(folder, sections=None, **simulation):
    prepare(write_spec(folder / "SPEC.yaml", sections, **simulation), folder / "data")
    return folder / "data", json.loads((folder / "data" / "preflight.json").read_text())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return made(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def seed_42(tmp_path_factory):
    sections = config()
    sections["simulation"] = {"n_frames": 60, "n_runs": 1}
    sections["training"] = {"n_epochs": 1}
    return made(tmp_path_factory.mktemp("seed-42"), sections, seed=42)


def test_seed_42_draws_the_recorded_reactions():
    network = draw_network(Metabolism())
    assert not network.S.sum(axis=0).any()
    assert len(network.met_sub) == 524 and np.count_nonzero(network.S) == 969
    values, counts = np.unique(network.S[network.S != 0].astype(int), return_counts=True)
    assert dict(zip(map(str, values), counts.tolist(), strict=True)) == SEED_42


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_reaction_conserves_mass(seed):
    network = draw_network(Metabolism(seed=seed, n_metabolites=20, n_reactions=40))
    assert not network.S.sum(axis=0).any() and (network.S != 0).any(axis=0).all()


def test_total_mass_stays_and_no_concentration_falls_below_zero():
    s = Metabolism(n_metabolites=20, n_reactions=40, log_k_max=0.5)
    run = simulate_runs(draw_network(s), s, [np.random.default_rng(0)], 400)[0]
    assert run.c.sum(axis=1) == pytest.approx(run.c[0].sum(), rel=1e-9)
    assert (run.c >= 0).all() and (run.c[:-1] + run.dc[:-1] > -1e-9).all()


def test_runs_that_step_together_are_the_runs_alone():
    s = Metabolism(n_metabolites=20, n_reactions=40, perturbation_every=7)
    network = draw_network(s)
    rngs = [np.random.default_rng(n) for n in (3, 4)]
    together = simulate_runs(network, s, rngs, 30)
    for number, run in zip((3, 4), together, strict=True):
        alone = simulate_runs(network, s, [np.random.default_rng(number)], 30)[0]
        assert np.allclose(run.c, alone.c, rtol=1e-9) and np.allclose(run.dc, alone.dc, rtol=1e-7, atol=1e-12)


def test_the_true_parameters_score_1_and_untrained_ones_0(seed_42):
    _, preflight = seed_42
    assert preflight["ok"] and preflight["reason"] is None
    assert preflight["guard"]["ok"] and preflight["guard"]["relative_error"] < 1e-6
    assert preflight["oracle"]["stoichiometry_R2"] == pytest.approx(1.0)
    assert preflight["oracle"]["rate_func_R2"] == pytest.approx(1.0)
    assert abs(preflight["null"]["stoichiometry_R2"]) < 0.1


def test_the_graph_alone_scores_what_is_recorded(seed_42):
    known = seed_42[1]["baselines"]
    assert known["stoichiometry_R2_sign_only"] == pytest.approx(0.807, abs=1e-3)
    assert known["stoichiometry_R2_mass_balance"] == pytest.approx(0.922, abs=1e-3)


def test_a_training_is_told_no_truth(tiny):
    data, _ = tiny
    assert {p.name for p in (data / "train").iterdir()} == {"c.npy", "dc.npy", "dataset.json", "graph.npz"}
    assert set(json.loads((data / "train" / "dataset.json").read_text())) == {
        "n_metabolites", "n_reactions", "n_frames", "n_runs", "delta_t"}  # fmt: skip
    with np.load(data / "train" / "graph.npz") as graph:
        assert set(graph.files) == {"met_sub", "rxn_sub", "met_all", "rxn_all"}
    assert {p.name for p in (data / "inputs").iterdir()} == {
        "grid_c.npy",
        "grid_sub.npy",
        "grid_pair.npy",
        "rate_c.npy",
        "heldout_c.npy",
        "rollout_c0.npy",
        "inputs.json",
    }
    assert np.load(data / "inputs" / "grid_pair.npy").shape == (2500, 2)


def test_the_second_trajectory_starts_elsewhere(tiny):
    data, _ = tiny
    c = np.load(data / "train" / "c.npy")
    assert c.shape == (2, 54, 8)
    assert not np.allclose(c[0, 0], c[1, 0]) and not np.allclose(c[0, 0], np.load(data / "inputs/rollout_c0.npy")[0])


def guarded(data):
    with np.load(data / "truth" / "functions.npz") as functions:
        rates = rates_of_functions({k: functions[k] for k in functions.files}, True, 1.0)
    return guard(data, 1.0, rates=rates)


@pytest.mark.parametrize("what", ["S", "log_k", "order", "functions"])
def test_the_guard_finds_a_truth_that_did_not_make_the_data(tmp_path, what):
    data, _ = made(tmp_path)
    assert guarded(data)["ok"]
    if what == "functions":
        with np.load(data / "truth" / "functions.npz") as found:
            changed = {k: found[k] for k in found.files}
        changed["rate_1_bias"] = changed["rate_1_bias"] + 0.05
        np.savez(data / "truth" / "functions.npz", **changed)
    else:
        path = data / "truth" / f"{what}.npy"
        values = np.load(path)
        place = tuple(index[0] for index in np.nonzero(values))
        values[place] += 1.0 if what != "log_k" else 0.1
        np.save(path, values)
    told = guarded(data)
    assert not told["ok"] and "right-hand side of the saved network" in told["sentence"]


def test_decoys_are_false_products_that_nothing_marks(tmp_path):
    data, preflight = made(tmp_path, n_metabolites=20, decoy_edges=True)
    with np.load(data / "train" / "graph.npz") as graph:
        told, sub = ({*zip(graph[f"met_{k}"], graph[f"rxn_{k}"], strict=True)} for k in ("all", "sub"))
        order = list(zip(graph["met_all"], graph["rxn_all"], strict=True))
    true = {*zip(*np.nonzero(np.load(data / "truth" / "S.npy")), strict=True)}
    assert true < told and len(told) == 2 * len(true) and sub < true
    assert order == sorted(order)
    assert preflight["oracle"]["support_AUC"] == 1.0
    assert preflight["baselines"]["stoichiometry_R2_mass_balance"] < 0.7


def test_a_shuffled_control_is_marked_and_holds_the_same_values(tmp_path, tiny):
    data, preflight = made(tmp_path, shuffled_control=True)
    plain, mixed = (np.load(d / "train" / "dc.npy") for d in (tiny[0], data))
    assert np.array_equal(np.load(tiny[0] / "train" / "c.npy"), np.load(data / "train" / "c.npy"))
    assert not np.array_equal(plain, mixed)
    assert np.array_equal(np.sort(plain, axis=1), np.sort(mixed, axis=1))
    assert preflight["ok"] and preflight["marks"] == preflight["warnings"][:1]
    assert preflight["ceiling"]["stoichiometry_R2_strict"] < 0.9


def test_the_ceiling_is_high_where_the_rates_are_known(tiny):
    assert tiny[1]["ceiling"]["stoichiometry_R2"] > 0.99


@pytest.mark.parametrize(("sections", "word"), [
    ({"simulation": {"use_mass_action": True}}, "homeostasis"),
    ({"simulation": {"cycle_fraction": 0.5}}, "homeostasis"),
    ({"simulation": {"stoichiometry_given": True}}, "freeze_stoichiometry"),
    ({"training": {"freeze_stoichiometry": True}}, "stoichiometry_given"),
    ({"training": {"time_step": 30}, "simulation": {"n_frames": 60}}, "time_step"),
])  # fmt: skip
def test_configs_that_cannot_be_learned_are_refused(sections, word):
    with pytest.raises(RefusedError, match=word):
        read_config("stoichiometry", sections)
