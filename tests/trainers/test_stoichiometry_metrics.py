"""Metrics of a learned S: what they are blind to, and what they see."""

from types import SimpleNamespace

import numpy as np
import pytest

from tests.trainers.reacting import config, write_spec
from trainers.prepare.build import prepare
from trainers.scoring.stoichiometric import functions, load_truth, matrices, reduced
from trainers.scoring.stoichiometry import reason, signs_of


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metrics")
    sections = config(simulation={"n_metabolites": 20, "n_reactions": 40})
    prepare(write_spec(folder / "SPEC.yaml", sections), folder / "data")
    return load_truth(folder / "data")


@pytest.fixture(scope="module")
def decoys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoys")
    sections = config(simulation={"n_metabolites": 20, "n_reactions": 40, "decoy_edges": True})
    prepare(write_spec(folder / "SPEC.yaml", sections), folder / "data")
    return load_truth(folder / "data")


def test_the_recorded_form_is_blind_to_scale_and_the_strict_one_is_not(truth):
    half = matrices(0.5 * truth.sto, truth)
    assert half["stoichiometry_R2"] == pytest.approx(1.0) and half["sign_accuracy"] == 1.0
    assert half["stoichiometry_R2_strict"] < 0.8 and half["exact_match"] < 0.6


def test_the_reduced_form_is_blind_to_a_scale_of_each_reaction(truth):
    scale = np.random.default_rng(0).uniform(0.3, 3.0, len(truth.log_k))[truth.edges[1]]
    found = matrices(truth.sto * scale, truth)
    assert found["stoichiometry_R2_reduced"] == pytest.approx(1.0) and found["exact_match_reduced"] == 1.0
    assert found["stoichiometry_R2"] < 0.95


def test_reduced_columns_are_the_true_ones_over_their_common_divisor(truth):
    form = reduced(truth.sto, truth)
    assert np.allclose(form, np.round(form))
    for j in range(len(truth.log_k)):
        mine = truth.edges[1] == j
        true = truth.sto[mine].astype(int)
        assert np.array_equal(form[mine], true // np.gcd.reduce(true))


def test_a_wrong_sign_is_seen(truth):
    flipped = truth.sto * np.where(np.arange(len(truth.sto)) == 3, -1.0, 1.0)
    found = matrices(flipped, truth)
    assert found["sign_accuracy"] == pytest.approx(1 - 1 / len(truth.sto))
    assert found["exact_match"] == pytest.approx(1 - 1 / len(truth.sto))


def test_the_true_matrix_scores_null_against_a_shuffled_truth(truth):
    rng = np.random.default_rng(0)
    found = [matrices(truth.sto, truth._replace(sto=rng.permutation(truth.sto))) for _ in range(50)]
    assert np.mean([f["stoichiometry_R2"] for f in found]) < 0.03
    assert max(f["stoichiometry_R2_strict"] for f in found) < 0 and max(f["sign_accuracy"] for f in found) < 0.75


def test_support_is_told_only_with_decoys(truth, decoys):
    assert "support_AUC" not in matrices(truth.sto, truth)
    noise = np.random.default_rng(0).normal(0, 0.05, len(decoys.sto))
    found = matrices(decoys.sto + noise, decoys)
    assert found["support_AUC"] == 1.0 and found["support_precision"] > 0.95 and found["support_recall"] > 0.95
    alike = matrices(np.ones(len(decoys.sto)), decoys)
    assert alike["support_AUC"] == 0.5 and alike["sign_accuracy"] < 0.6
    assert reason("support_AUC", truth) == "no decoy edges"


def test_functions_are_compared_up_to_the_scale_that_belongs_to_k(truth):
    exact = {"log_k": truth.log_k, "rate_pair": truth.rate_pair, "rate_visited": truth.rate_visited}
    moved = {"log_k": truth.log_k - 1.0, "rate_pair": 3 * truth.rate_pair, "rate_visited": 10 * truth.rate_visited}
    for estimate in (exact, moved):
        assert all(value == pytest.approx(1.0) for value in functions(estimate, truth).values())
    flat = exact | {"rate_pair": np.ones(len(truth.rate_pair)), "rate_visited": np.ones_like(truth.rate_visited)}
    found = functions(flat, truth)
    assert found["substrate_func_corr"] is None and found["substrate_func_R2"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("constrain", "init", "words"), [
    (True, "randn", "given"), (False, "graph_sign", "started from the graph"),
    (False, "randn", "learned")])  # fmt: skip
def test_the_log_says_where_signs_come_from(constrain, init, words):
    assert words in signs_of(SimpleNamespace(constrain_sign=constrain, S_init=init))
