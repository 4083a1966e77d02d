import numpy as np
import pytest

from trainers.scoring import clusters, support
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
    for name in ("connectivity_R2", "connectivity_R2_strict", "connectivity_slope", "sign_agreement", "support_AUC",
                 "support_precision", "support_recall"):  # fmt: skip
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
    found = m.connectivity(perfect["W"], perfect["lin_edge"], full)
    assert [found[name] for name in ("support_AUC", "support_precision", "support_recall")] == [None] * 3


# --- support ----------------------------------------------------------------------------------------------------------


def sparse(seed=0, n=4000, filling=0.5):
    """Return couplings of which a part is exactly zero, and which are not."""
    rng = np.random.default_rng(seed)
    real = rng.random(n) < filling
    return rng.normal(size=n) * real, real, rng


def told(couplings, real):
    limit = support.threshold(couplings)
    return support.precision_recall(np.abs(couplings) > (np.inf if limit is None else limit), real)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_support_is_told_from_the_learned_values_alone_and_error_lowers_it(scale):
    right, real, rng = sparse()
    assert told(scale * right, real) == (1.0, 1.0)
    noise = rng.normal(size=len(right))
    scores = [told(scale * (right + sd * noise), real) for sd in (0.02, 0.1, 0.4)]
    assert scores[0][0] > 0.98 and scores[0][1] > 0.94
    assert scores[0][1] > scores[1][1] > scores[2][1] and scores[0][0] > scores[1][0] > scores[2][0]


def test_planted_false_and_missing_weights_lower_precision_and_recall_alone():
    right, real, rng = sparse()
    learned = right + 0.02 * rng.normal(size=len(right))
    precision, recall = told(learned, real)
    false = np.where(np.cumsum(~real) <= 400, ~real * rng.normal(size=len(right)), 0.0)
    assert told(learned + false, real)[0] < precision - 0.1 and told(learned + false, real)[1] > recall - 0.05
    missing = np.where(np.cumsum(real) <= 400, 0.02 * rng.normal(size=len(right)), learned)
    assert told(missing, real)[1] < recall - 0.15 and told(missing, real)[0] > precision - 0.05


@pytest.mark.parametrize("seed", range(5))
def test_an_untrained_W_has_one_population_and_no_support(seed):
    _, real, rng = sparse(seed)
    assert support.threshold(rng.normal(size=len(real))) is None
    assert told(rng.normal(size=len(real)), real) == (0.0, 0.0)
    assert support.threshold(np.zeros(9)) is None


def test_the_threshold_is_near_the_best_one_also_for_heavy_tails():
    """Best: the threshold of the largest F1, which only the truth could choose."""
    _, real, rng = sparse(3, filling=0.2)
    for weights in (rng.normal(size=len(real)), np.clip(rng.standard_cauchy(len(real)), -25, 25)):
        learned = weights * real + 0.05 * rng.normal(size=len(real))

        best = max(f1(learned, real, q) for q in np.quantile(np.abs(learned), np.linspace(0.01, 0.99, 99)))
        assert f1(learned, real, support.threshold(learned)) > best - 0.05


def f1(learned, real, limit):
    precision, recall = support.precision_recall(np.abs(learned) > limit, real)
    return 2 * precision * recall / (precision + recall)


# --- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accuracy", [clusters.recorded_accuracy, clusters.kmeans_accuracy])
def test_types_that_the_embeddings_separate_are_all_told(accuracy):
    rng = np.random.default_rng(0)
    types = np.arange(80) * 4 // 80
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]])
    a = corners[types] + 0.01 * rng.normal(size=(80, 2))
    assert accuracy(a, types) == 1.0
    assert accuracy(3 - 7 * a, types) == 1.0
    assert accuracy(corners[rng.permutation(4)][types], types) == 1.0
    swapped = a.copy()
    swapped[[0, 79]] = swapped[[79, 0]]
    assert accuracy(swapped, types) == pytest.approx(78 / 80)


def test_embeddings_that_say_nothing_score_chance():
    types = np.arange(200) * 4 // 200
    assert clusters.kmeans_accuracy(np.ones((200, 2)), types) == 0.25
    assert clusters.recorded_accuracy(np.ones((200, 2)), types) <= 0.25
    assert clusters.kmeans_accuracy(np.random.default_rng(0).normal(size=(200, 2)), types) < 0.4


def test_accuracies_are_there_for_several_types_alone(truth, perfect):
    estimate = perfect | {"a": np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0)}
    assert "cluster_accuracy" not in m.score_estimate(estimate, truth)
    two = truth._replace(types=np.repeat([0, 1], 5), params=np.repeat(truth.params[:1], 2, axis=0))
    found = m.score_estimate(estimate, two)
    assert found["cluster_accuracy"] == 1.0 and found["cluster_accuracy_kmeans"] == 1.0


# --- spectrum ---------------------------------------------------------------------------------------------------------


def test_the_learned_spectrum_has_no_gauge_and_the_unit_of_the_true_W(truth, perfect):
    radius = np.abs(np.linalg.eigvals(truth.W)).max()
    learned, right = m.spectra(perfect["W"] / -3, perfect["lin_edge"] * -3 + 2, truth)
    assert np.abs(learned).max() == pytest.approx(radius) and np.abs(right).max() == pytest.approx(radius)
    assert np.abs(m.spectra(2 * perfect["W"], perfect["lin_edge"], truth)[0]).max() == pytest.approx(2 * radius)
    flat = m.spectra(perfect["W"], np.ones_like(perfect["lin_edge"]), truth)[0]
    assert np.abs(flat).max() == pytest.approx(0.0)


# --- low rank ---------------------------------------------------------------------------------------------------------


def test_the_factors_of_a_low_rank_W_are_told_up_to_gauge_and_rotation(truth, perfect):
    rng = np.random.default_rng(0)
    low = truth._replace(W=rng.normal(size=(10, 2)) @ rng.normal(size=(2, 10)))
    right = low.coupling()
    assert m.factors(right, perfect["lin_edge"], low, 2) == pytest.approx({"U_R2": 1.0, "V_R2": 1.0})
    moved = m.factors(right / -3, perfect["lin_edge"] * -3 + 2, low, 2)
    assert moved == pytest.approx({"U_R2": 1.0, "V_R2": 1.0})
    noisy = [m.factors(right + sd * rng.normal(size=(10, 10)), perfect["lin_edge"], low, 2) for sd in (0.3, 3.0, 12.0)]
    for name in ("U_R2", "V_R2"):
        assert 1.0 > noisy[0][name] > noisy[1][name] > noisy[2][name] and noisy[0][name] > 0.95
        untrained = m.factors(rng.normal(size=(10, 10)), perfect["lin_edge"], low, 2)
        assert untrained[name] < 0.5


def test_a_wrong_source_factor_lowers_V_alone(truth, perfect):
    rng = np.random.default_rng(1)
    left, sources = rng.normal(size=(10, 1)), rng.normal(size=(10, 1))
    other = rng.normal(size=(10, 1))
    other *= np.linalg.norm(sources) / np.linalg.norm(other)
    low = truth._replace(W=left @ sources.T)
    found = m.factors(left @ other.T * truth.params[0, 2], perfect["lin_edge"], low, 1)
    assert found["U_R2"] > 0.99 and found["V_R2"] < 0.9


# --- silhouette -------------------------------------------------------------------------------------------------------


def test_silhouette_tells_separate_types_from_mixed_ones():
    rng = np.random.default_rng(0)
    types = np.repeat([0, 1, 2, 3], 20)
    apart = np.array([[0, 0], [9, 0], [0, 9], [9, 9]])[types] + 0.1 * rng.normal(size=(80, 2))
    assert clusters.silhouette(apart, types) > 0.95
    assert clusters.silhouette(apart, rng.permutation(types)) < 0.05
    assert clusters.silhouette(rng.normal(size=(80, 2)), types) < 0.05
    merged = apart.copy()
    merged[types == 1] = apart[types == 0]
    assert clusters.silhouette(merged, types) < 0.6


@pytest.mark.parametrize(
    ("a", "types"),
    [(np.ones((6, 2)), np.repeat([0, 1], 3)), (np.eye(6), np.zeros(6, int)), (np.eye(6), np.arange(6))],
    ids=["all coincide", "one type", "as many types as neurons"],
)
def test_silhouette_is_not_defined(a, types):
    assert clusters.silhouette(a, types) is None
