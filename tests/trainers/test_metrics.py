import numpy as np
import pytest

from trainers.scoring import metrics as m


@pytest.fixture
def truth(regime):
    return m.load_truth(regime)


@pytest.fixture
def perfect(truth):
    return {"W": truth.coupling(), "lin_edge": truth.lin_edge, "lin_phi": truth.lin_phi}


def test_the_gauge_does_not_count(truth, perfect):
    """W -> W / c, lin_edge -> c lin_edge + d, c of either sign and of another value for each sender."""
    rng = np.random.default_rng(0)
    c, d = rng.normal(size=10) + 2.5 * rng.choice([-1, 1], 10), rng.normal(size=10)
    moved = {"W": perfect["W"] / c, "lin_edge": perfect["lin_edge"] * c[:, None] + d[:, None]}
    found = m.connectivity(moved["W"], moved["lin_edge"], truth)
    for name in ("connectivity_R2", "connectivity_R2_strict", "connectivity_slope", "sign_agreement", "support_AUC"):
        assert found[name] == pytest.approx(1.0, abs=1e-9), name


def test_a_wrong_scale_counts_only_in_the_strict_form(truth, perfect):
    found = m.connectivity(3 * perfect["W"], perfect["lin_edge"], truth)
    assert found["connectivity_R2"] == pytest.approx(1.0)
    assert found["connectivity_R2_strict"] == pytest.approx(1 - 2**2, abs=0.3)
    assert found["connectivity_slope"] == pytest.approx(3.0)


def test_the_transposed_W_does_not_score(truth, perfect):
    assert m.connectivity(perfect["W"].T, perfect["lin_edge"], truth)["connectivity_R2"] < 0.3


def test_a_constant_lin_edge_scores_zero(truth, perfect):
    found = m.connectivity(perfect["W"], np.ones_like(perfect["lin_edge"]), truth)
    assert found["connectivity_R2"] == 0.0 and found["connectivity_R2_strict"] <= 0.0


def test_auc_against_sklearn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    a, b = np.round(rng.normal(1, 1, 200), 1), np.round(rng.normal(0, 1, 150), 1)
    wanted = roc_auc_score(np.r_[np.ones(200), np.zeros(150)], np.r_[a, b])
    assert m.auc(a, b) == pytest.approx(wanted)
    assert m.auc(a, b[:0]) is None


def test_an_equal_rollout_is_perfect_and_a_wrong_one_is_not(truth):
    right = truth.rollout_u[0]
    same = m.dynamics(right[None], right[None])
    assert same["kinograph_R2"] == 1 and same["kinograph_SSIM"] == pytest.approx(1) and same["test_R2"] == 1
    assert same["kinograph_Wasserstein"] == 0 and same["test_pearson"] == pytest.approx(1)
    other = m.dynamics(-right[None], right[None])
    assert other["test_pearson"] == pytest.approx(-1) and other["kinograph_R2"] < 0
    shifted = m.dynamics(right[None] + 2.0, right[None])
    assert shifted["test_R2"] == pytest.approx(1.0)  # the recorded form fits a line
    assert shifted["kinograph_R2"] < 0.99 and shifted["kinograph_Wasserstein"] > 0


def test_an_exploding_rollout_counts_as_failed(truth):
    right = truth.rollout_u[0]
    found = right.copy()
    found[50:] = np.inf
    scores = m.dynamics(found[None], right[None])
    assert scores["test_R2"] < 0.1 and scores["test_pearson"] == 0.0
    assert np.isnan(scores["kinograph_SSIM"]) and not np.isfinite(scores["kinograph_R2"])


def test_one_step_r2_is_taken_around_each_neurons_mean():
    right = np.array([[0.0, 10.0], [2.0, 12.0]])
    assert m.one_step_r2(right, right) == 1.0
    assert m.one_step_r2(np.repeat(right.mean(axis=0)[None], 2, axis=0), right) == pytest.approx(0.0)


def test_support_is_not_defined_for_a_full_W(truth, perfect):
    full = truth._replace(W=np.where(np.eye(10) > 0, 0.0, 1.0 + truth.W))
    assert m.connectivity(perfect["W"], perfect["lin_edge"], full)["support_AUC"] is None
