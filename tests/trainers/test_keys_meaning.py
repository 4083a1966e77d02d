"""What each key of the seed's code ideas says is what it does."""

import math

import pytest
import torch
from torch import nn

from tests.trainers.runs import STEPS, Notes, frames, tiny
from trainers.errors import DivergedError, RefusedError, StoppedError
from trainers.losses import group_lasso, small_entries, soft_threshold_
from trainers.optim import rate_factor
from trainers.rollout import FIXED_STEP, OdeSolver
from trainers.run import Run
from trainers.settings import Reader, SignalTraining
from trainers.signal import data_train_signal, estimates, new_model

LONG = {"n_epochs_init": 0, "data_augmentation_loop": 20}


def trained(run=None, **keys):
    """Return the notes of a training and its model."""
    run, (data, inputs) = run or Notes(), frames()
    return run, data_train_signal(Reader(tiny(**keys)), data, inputs, run)


def start(**keys):
    """Return the model before training."""
    config = tiny(**keys)
    torch.manual_seed(config.training.seed)
    return new_model(5, config.graph_model, config.training.training_single_type, config.training.W_init_scale)


def test_proximal_l1_makes_exact_zeros():
    off = ~torch.eye(5, dtype=torch.bool)
    zeros = [int((trained(**LONG, coeff_W_proximal=c)[1].W[off] == 0).sum()) for c in (0.0, 1.0, 100.0)]
    assert zeros[0] == 0 < zeros[1] < zeros[2] == 20


def test_a_soft_threshold_shrinks_and_stops_at_zero():
    W = torch.tensor([0.3, -0.3, 0.1, -0.05, 0.0])
    soft_threshold_(W, 0.1)
    assert torch.allclose(W, torch.tensor([0.2, -0.2, 0.0, 0.0, 0.0])) and not W[2:].any()


def test_the_proximal_step_follows_the_rate_of_W():
    """Sgd with nothing but the proximal step moving an entry: the mask leaves the others without gradient."""
    keys = {"n_epochs": 1, "n_epochs_init": 0, "optimizer_W": "sgd", "momentum_W": 0.0, "learning_rate_W_start": 0.01}
    plain, moved = (trained(**keys, coeff_W_proximal=c, data_augmentation_loop=1)[1].W for c in (0.0, 3.0))
    away = (plain - moved).detach()
    assert torch.allclose(away, plain.detach().clamp(-0.03, 0.03), atol=1e-6)


def test_gradient_clipping_bounds_the_step_of_W_alone():
    keys = {"optimizer_W": "sgd", "momentum_W": 0.0, "learning_rate_W_start": 0.5, "n_epochs": 1,
            "data_augmentation_loop": 1}  # fmt: skip
    first = start()
    free, clipped = trained(**keys)[1], trained(**keys, grad_clip_W=1e-2)[1]
    assert float((clipped.W - first.W).detach().norm()) == pytest.approx(0.5 * 1e-2, rel=1e-3)
    assert float((free.W - first.W).detach().norm()) > 0.02
    assert torch.equal(free.lin_phi.layers[0].weight, clipped.lin_phi.layers[0].weight)


def test_clipping_and_optimizer_act_on_both_factors():
    keys = {"optimizer_W": "sgd", "momentum_W": 0.0, "learning_rate_W_start": 0.5, "n_epochs": 1,
            "data_augmentation_loop": 1, "W_rank": 2, "grad_clip_W": 1e-2}  # fmt: skip
    first, last = start(**keys), trained(**keys)[1]
    moved = [(getattr(last, f) - getattr(first, f)).detach().square().sum() for f in ("W_L", "W_R")]
    assert all(moved) and math.sqrt(sum(moved)) == pytest.approx(0.5 * 1e-2, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "values"),
    [("none", [1, 1, 1, 1, 1]), ("cosine", [1, None, 0.505, None, 0.01]), ("step", [1, 1, 0.1, 0.01, 0.01])],
)
def test_a_schedule_falls_from_one_to_its_last_fraction(kind, values):
    found = [rate_factor(part / 4, kind, 0.01, 2) for part in range(5)]
    assert found == sorted(found, reverse=True)
    assert all(w is None or f == pytest.approx(w) for f, w in zip(found, values, strict=True))


def test_drops_are_equal_factors():
    found = [rate_factor(i / 100, "step", 0.001, 3) for i in range(101)]
    assert sorted({round(f, 9) for f in found}, reverse=True) == pytest.approx([1, 0.1, 0.01, 0.001])


def test_a_schedule_moves_the_rates_in_its_scope():
    keys = {"lr_scheduler": "cosine", "lr_scheduler_final": 0.1}
    only_W, both = trained(**keys)[0].rates, trained(**keys, lr_scheduler_scope="all")[0].rates
    # `record` is called after the schedulers, so it sees the rate of the step to come.
    told = [rate_factor(step / (2 * STEPS), "cosine", 0.1, 3) for step in range(1, 2 * STEPS + 1)]
    assert [w for w, _ in only_W] == pytest.approx([0.01 * p for p in told])
    assert {o for _, o in only_W} == {1e-3}
    assert both == [(w, pytest.approx(w / 10)) for w, _ in only_W]


def test_penalties_act_in_phase_2_and_say_so_in_the_terms():
    keys = {"coeff_W_small": 0.1, "coeff_W_group_lasso": 0.1, "coeff_edge_diff": 0.0, "coeff_edge_diff_phase2": 5.0}
    terms = trained(**keys)[0].terms
    assert all(set(t) == {"prediction"} for t in terms[:STEPS])
    assert all(set(t) == {"prediction", "edge_diff", "W_small", "W_group_lasso"} for t in terms[STEPS:])


def test_the_small_entry_penalty_pulls_small_entries_only():
    W = torch.tensor([[0.0, 0.02], [-0.03, 2.0]], requires_grad=True)
    value = small_entries(W, 0.05)
    value.backward()
    assert value.item() == pytest.approx(0.02 + 0.03 + 0.05)
    assert torch.equal(W.grad, torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))


def test_group_lasso_is_over_senders():
    W = torch.tensor([[3.0, 0.0], [4.0, 0.0]], requires_grad=True)
    value = group_lasso(W)
    value.backward()
    assert value.item() == pytest.approx(5.0)
    assert torch.allclose(W.grad, torch.tensor([[0.6, 0.0], [0.8, 0.0]]))


def test_penalties_of_a_low_rank_model_act_on_the_product():
    free, held = (trained(**LONG, W_rank=2, first_coeff_L1=c, coeff_W_L1=c)[1].W for c in (0.0, 1.0))
    assert held.detach().abs().sum() < 0.8 * free.detach().abs().sum()


def test_estimates_of_a_low_rank_model_hold_the_product():
    _, model = trained(W_rank=2)
    W = estimates(model, frames()[1])["W"].detach()
    assert W.shape == (5, 5) and not W.diagonal().any()
    assert torch.linalg.matrix_rank(model.W.detach()) == 2


def test_a_free_diagonal_is_learned():
    kept, free = trained()[1], trained(W_zero_diagonal=False)[1]
    assert not kept.W.diagonal().any() and free.connectivity().diagonal().all()


def test_mlp_sizes_are_those_of_the_config():
    model = start(hidden_dim=4, n_layers=2, hidden_dim_update=7, n_layers_update=4, MLP_activation="sigmoid")
    assert [layer.out_features for layer in model.lin_edge.layers] == [4, 1]
    assert [layer.out_features for layer in model.lin_phi.layers] == [7, 7, 7, 1]
    assert isinstance(model.lin_edge.activation, nn.Sigmoid) and isinstance(model.lin_phi.activation, nn.Sigmoid)


# --- resuming --------------------------------------------------------------------------------------------------------


class StopAt(Run):
    """A run that gets SIGTERM in the middle of the second epoch."""

    def record(self, stateful, terms, phase, epoch, step):
        self.stop_requested = step == STEPS + 1
        super().record(stateful, terms, phase, epoch, step)


@pytest.mark.parametrize(
    "keys",
    [
        {"lr_scheduler": "cosine", "lr_scheduler_scope": "all"},
        {"lr_scheduler": "step", "optimizer_W": "sgd", "coeff_W_proximal": 1.0, "grad_clip_W": 0.1},
        {"lr_scheduler": "step", "W_rank": 2},
        {"neural_ODE_training": True, "time_step": 2, "ode_method": "rk4"},
        {
            "recurrent_training": True,
            "time_step": 3,
            "recurrent_curriculum": True,
            "recurrent_intermediate": 0.1,
            "recurrent_checkpointing": True,
            "noise_recurrent_level": 0.05,
        },
        {"training_single_type": False, "embedding_replacement": "kmeans", "embedding_replacement_at": 0.5},
        {"training_single_type": False, "embedding_replacement": "kmeans", "embedding_replacement_at": 0.8},
    ],
)
def test_a_stopped_training_continues_bit_for_bit(tmp_path, keys):
    _, whole = trained(Run(tmp_path / "whole"), **keys)
    with pytest.raises(StoppedError):
        trained(StopAt(tmp_path / "cut"), **keys)
    _, continued = trained(Run(tmp_path / "cut"), **keys)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), continued.parameters(), strict=True))
    saved = torch.load(tmp_path / "cut" / "out" / "checkpoint.pt", weights_only=True)["states"]
    assert saved["scheduler_W"]["last_epoch"] == (2 * STEPS if "lr_scheduler" in keys else 0)


# --- neural ODE ------------------------------------------------------------------------------------------------------


def solver(method, adjoint=False, clamp=1e3, rtol=1e-6):
    return OdeSolver(method, rtol, 1e-7, adjoint, clamp)


def ode_state(model, u, n_frames, delta_t, solver):
    """Return the state n_frames after u; this right-hand side has no connectivity."""
    states = solver.states(lambda u, W: model(u), u, torch.zeros(()), [n_frames], delta_t, model.parameters())
    return states[n_frames]


class Decay(nn.Module):
    """du/dt = -rate u."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.ones(()))

    def forward(self, u):
        return -self.rate * u


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_a_linear_decay_reaches_one_over_e_with_the_right_gradient(method, adjoint):
    model = Decay()
    state = ode_state(model, torch.ones(2, 3), 10, 0.1, solver(method, adjoint))
    assert torch.allclose(state, torch.full((2, 3), math.exp(-1)), atol=1e-4)
    state.sum().backward()
    assert float(model.rate.grad) == pytest.approx(-6 * math.exp(-1), rel=1e-3)


@pytest.mark.parametrize("method", FIXED_STEP)
def test_a_fixed_step_is_one_frame(method):
    """Steps of 0.1 miss exp(-1) by the method's own order; Euler is (1 - 0.1)^10 to the bit."""
    error = abs(float(ode_state(Decay(), torch.ones(1, 1), 10, 0.1, solver(method)).detach()) - math.exp(-1))
    bound = {"euler": 0.02, "midpoint": 1e-3, "heun3": 3e-5, "rk4": 1e-6}[method]
    assert bound / 100 < error < bound
    if method == "euler":
        u = torch.ones(1, 1)
        for _ in range(10):
            u = u + 0.1 * -u
        assert torch.equal(ode_state(Decay(), torch.ones(1, 1), 10, 0.1, solver(method)), u)


def test_euler_through_the_solver_is_recurrent_training():
    keys = {"time_step": 3, "coeff_W_L1": 0.1}
    recurrent, left = trained(recurrent_training=True, **keys)
    ode, right = trained(neural_ODE_training=True, ode_method="euler", ode_adjoint=False, **keys)
    assert [t["prediction"] for t in recurrent.terms] == pytest.approx([t["prediction"] for t in ode.terms], rel=1e-5)
    assert torch.allclose(left.W, right.W, atol=1e-5)


def test_neural_ode_training_starts_at_its_epoch():
    plain = trained()[0].terms
    late = trained(neural_ODE_training=True, ode_method="rk4", recurrent_training_start_epoch=1, time_step=2)[0].terms
    assert late[:STEPS] == plain[:STEPS] and late[STEPS] != plain[STEPS]


def test_a_clamped_state_grows_only_linearly():
    model = Decay()
    with torch.no_grad():
        model.rate.fill_(-5.0)
    free, held = (ode_state(model, torch.ones(1, 1), 10, 0.1, solver("rk4", clamp=c)).item() for c in (1e9, 2.0))
    assert free > 100 and held < 1 + 5.0 * 2.0


def test_a_state_that_cannot_be_solved_ends_the_run():
    with pytest.raises(DivergedError, match="dopri5 found no step over 4 frames"):
        ode_state(Decay(), torch.full((1, 1), math.nan), 4, 0.1, solver("dopri5"))


def test_both_kinds_of_rollout_are_refused():
    with pytest.raises(RefusedError, match="recurrent_training and neural_ODE_training are both true"):
        tiny(recurrent_training=True, neural_ODE_training=True)


def test_spellings_and_defaults_of_the_seed_stay():
    seed = {"neural_ODE_training": False, "ode_method": "dopri5", "ode_rtol": 1e-4, "ode_atol": 1e-5,
            "ode_adjoint": True, "ode_state_clamp": 10.0, "grad_clip_W": 0.0}  # fmt: skip
    assert {name: SignalTraining.model_fields[name].default for name in seed} == seed
