"""Rollouts through the training loop itself: what is predicted, from where, with which gradient, at what memory."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from models.signal import SignalPropagation
from tests.trainers.conftest import write_order
from tests.trainers.runs import N_NEURONS, Notes, frames, tiny
from tests.trainers.test_training import restore_global_state  # noqa: F401 (a fixture)
from trainers import signal
from trainers.data import load_signal
from trainers.errors import StoppedError
from trainers.order import read_order
from trainers.rollout import FIXED_STEP, OdeSolver, rollout_depth
from trainers.run import Run
from trainers.settings import Reader, SignalTraining, read_config

ONE_STEP = {"n_epochs": 1, "n_epochs_init": 1, "data_augmentation_loop": 1, "coeff_edge_diff": 0.0}
RECURRENT = {"recurrent_training": True}
MODES = [RECURRENT, {"neural_ODE_training": True, "ode_method": "euler", "ode_adjoint": False},
         {"neural_ODE_training": True, "ode_method": "euler", "ode_adjoint": True}]  # fmt: skip


def trained(data=None, run=None, **keys):
    """Return the notes of a training and its model."""
    run, (own, inputs) = run or Notes(), frames()
    return run, signal.data_train_signal(Reader(tiny(**keys)), data or own, inputs, run)


def euler_frames(length=60):
    """Return frames of which each is an Euler step from the one before, as every simulator here makes them."""
    data, _ = frames()
    du = (data.u[1:] - data.u[:-1]) / data.delta_t
    return data._replace(u=data.u[:length], du=torch.cat([du, du[-1:]])[:length])


@pytest.fixture
def models(monkeypatch):
    """Return a function that has the loop train what it is given in place of a new model."""
    return lambda make: monkeypatch.setattr(signal, "new_model", make)


# --- one frame -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES[:2])
@pytest.mark.parametrize("keys", [{"coeff_edge_diff": 5.0}, {"loss": "mse", "coeff_W_L1": 0.1}])
def test_a_rollout_of_one_frame_is_single_step_training(mode, keys):
    """The same frames need the same range to draw from, so the single steps get one frame less.

    Not through the adjoint: its Euler steps go backwards from the other end, so its gradient differs by O(delta_t).
    """
    keys = {"data_augmentation_loop": 10} | keys
    single, left = trained(euler_frames(59), **keys)
    rolled, right = trained(euler_frames(60), **keys, **mode)
    assert [sum(t.values()) for t in rolled.terms] == pytest.approx([sum(t.values()) for t in single.terms], rel=1e-4)
    for one, other in zip(left.parameters(), right.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-4), (one - other).abs().max()


# --- gradients -------------------------------------------------------------------------------------------------------


class Gradients(Notes):
    """Notes that keep the gradients of the step."""

    def record(self, stateful, terms, phase, epoch, step):
        super().record(stateful, terms, phase, epoch, step)
        self.found = {n: p.grad.clone() for n, p in stateful["model"].named_parameters() if p.grad is not None}


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    "keys",
    [{}, {"recurrent_checkpointing": True, "recurrent_intermediate": 0.7}, {"loss": "mse", "normalise_du": True}],
)
@pytest.mark.parametrize("mode", MODES[:2])
def test_gradients_of_four_frames_are_finite_differences(mode, keys, models, double):
    keys = ONE_STEP | mode | keys | {"time_step": 4, "MLP_activation": "tanh", "training_single_type": False}
    data = frames()[0]
    data, original = data._replace(u=data.u.double(), du=data.du.double()), signal.new_model

    def loss(name=None, place=0, by=0.0):
        def moved(*args):
            model = original(*args)
            with torch.no_grad():
                for known, parameter in model.named_parameters():
                    if known == name:
                        parameter.view(-1)[place] += by
            return model

        models(moved)
        run, _ = trained(data, Gradients(), **keys)
        return sum(run.terms[0].values()), run.found

    _, gradients = loss()
    assert set(gradients) >= {"W", "a", "lin_edge.layers.0.weight", "lin_phi.layers.2.bias"}
    for name, gradient in gradients.items():
        place = int(gradient.abs().argmax())
        above, below = (loss(name, place, by)[0] for by in (1e-6, -1e-6))
        assert float(gradient.view(-1)[place]) == pytest.approx((above - below) / 2e-6, rel=1e-5), name


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_the_adjoint_has_the_gradients_of_the_direct_way(method, double):
    keys = ONE_STEP | {"neural_ODE_training": True, "ode_method": method, "time_step": 4, "MLP_activation": "tanh",
                       "training_single_type": False, "ode_rtol": 1e-8, "ode_atol": 1e-8,
                       "recurrent_intermediate": 0.5}  # fmt: skip
    data = frames()[0]
    data = data._replace(u=data.u.double(), du=data.du.double())
    (adjoint, _), (direct, _) = (trained(data, Gradients(), **keys, ode_adjoint=a) for a in (True, False))
    for name, gradient in direct.found.items():
        assert torch.allclose(adjoint.found[name], gradient, rtol=2e-3, atol=1e-5), name


# --- checkpointing ---------------------------------------------------------------------------------------------------


def kept_bytes(**keys):
    """Return the bytes kept for the backward pass of one gradient step, and the model after it."""
    kept = 0

    def pack(tensor):
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run, model = trained(**(ONE_STEP | keys))
    return kept, run.terms, model


@pytest.mark.parametrize("mode", MODES[:2])
def test_checkpointing_keeps_the_bits_and_not_the_activations(mode):
    keys = mode | {"time_step": 16, "recurrent_intermediate": 0.1, "hidden_dim": 32, "hidden_dim_update": 32}
    all_bytes, terms, model = kept_bytes(**keys)
    few_bytes, same_terms, same_model = kept_bytes(**keys, recurrent_checkpointing=True)
    assert few_bytes < all_bytes / 10
    assert terms == same_terms
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same_model.parameters(), strict=True))


def test_memory_of_a_checkpointed_rollout_hardly_grows_with_its_depth():
    keys = RECURRENT | {"hidden_dim": 32, "hidden_dim_update": 32}
    grown = [kept_bytes(**keys, time_step=32, recurrent_checkpointing=c)[0]
             - kept_bytes(**keys, time_step=16, recurrent_checkpointing=c)[0] for c in (False, True)]  # fmt: skip
    assert grown[1] < grown[0] / 20


# --- which frames ----------------------------------------------------------------------------------------------------


class Watched(nn.Module):
    """du/dt = 0 of a model that notes the states that it is asked about."""

    def __init__(self, *args):
        super().__init__()
        self.W = nn.Parameter(torch.zeros(N_NEURONS, N_NEURONS))
        self.a = torch.ones(N_NEURONS, 2)
        self.slope = nn.Parameter(torch.zeros(()))
        self.asked = []

    def connectivity(self):
        return self.W

    def sent(self, u):
        return self.slope * u

    def rate(self, u, W, sent=None):
        self.asked.append(u.detach()[:, 0].tolist())
        return self.slope * u + u @ W.T


@pytest.mark.parametrize("time_step", [1, 4, 7])
def test_rollouts_start_at_multiples_of_their_depth(time_step, models, monkeypatch):
    """A state names its own frame, and an untrained rollout stays where it starts."""
    data = frames()[0]
    data = data._replace(u=torch.arange(60.0)[:, None].expand(-1, N_NEURONS))
    models(lambda *args: Watched())
    keys = {"n_epochs": 1, "data_augmentation_loop": 40, "coeff_edge_diff": 0.0, "learning_rate_W_start": 1e-30,
            "learning_rate_start": 1e-30}  # fmt: skip
    monkeypatch.setattr(signal, "estimates", lambda *_: {})
    run, model = trained(data, recurrent_training=True, time_step=time_step, **keys)
    starts = [f for batch in model.asked[::time_step] for f in batch]
    assert all(f % time_step == 0 and f + time_step < 60 for f in starts) and len(set(starts)) > 5
    missed = time_step / (data.delta_t * time_step)  # every frame moves by 1
    assert run.terms[0]["prediction"] == pytest.approx(missed * math.sqrt(8 * N_NEURONS), rel=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_earlier_frames_count_only_with_intermediate_supervision(mode):
    keys = ONE_STEP | mode | {"time_step": 4}
    data = frames()[0]
    moved = data.u.clone()
    moved[torch.arange(60) % 4 != 0] += 1.0
    other = data._replace(u=moved)
    scale = {"ode_state_clamp": 1e3}  # in units of std(u), which the change moves
    alike = [trained(d, **keys, **scale)[0].terms[0] for d in (data, other)]
    assert alike[0] == alike[1] and set(alike[0]) == {"prediction"}
    told = [trained(d, **keys, **scale, recurrent_intermediate=0.5)[0].terms[0] for d in (data, other)]
    assert set(told[0]) == {"prediction", "intermediate"}
    assert told[0]["prediction"] == told[1]["prediction"] == alike[0]["prediction"]
    assert told[0]["intermediate"] != told[1]["intermediate"]


@pytest.mark.parametrize("loss", ["norm", "mse"])
def test_the_intermediate_loss_is_the_mean_over_the_earlier_frames(loss, models, monkeypatch):
    """Frames that move by 1, then 3, then 5 under a model that stands still are missed by k^2 over k frames."""
    monkeypatch.setattr(signal, "estimates", lambda *_: {})
    data = frames()[0]
    data = data._replace(u=(torch.arange(60.0)[:, None] % 4).square().expand(-1, N_NEURONS))
    models(lambda *args: Watched())
    keys = ONE_STEP | RECURRENT | {"time_step": 4, "loss": loss, "normalise_du": True}
    terms = trained(data, **keys, recurrent_intermediate=0.5)[0].terms[0]
    unit = float(data.du.std()) * data.delta_t
    size = math.sqrt(8 * N_NEURONS)
    rms = [k**2 / k / unit for k in (1, 2, 3)]
    expected = [r**2 for r in rms] if loss == "mse" else [r * size for r in rms]
    assert terms["prediction"] == 0.0  # frame 4 is where frame 0 was
    assert terms["intermediate"] == pytest.approx(0.5 * sum(expected) / 3, rel=1e-5)


# --- the data's own dynamics -----------------------------------------------------------------------------------------


class Relaxation(nn.Module):
    """lin_phi of one type without s: -a u + b."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = a, b

    def forward(self, features):
        return -self.a * features[..., :1] + self.b


def true_model(folder):
    """Return the system behind a regime's data as a model of training."""
    W, params = (torch.from_numpy(np.load(folder / "truth" / f"{name}.npy")) for name in ("W", "params"))
    a, b, g, s, w, h = params[0].tolist()
    assert (s, w, h) == (0, 1, 0)
    model = SignalPropagation(len(W), lin_edge_mode="tanh")
    model.lin_phi = Relaxation(a, b)
    with torch.no_grad():
        model.W.copy_(g * W)
    return model


def test_euler_at_the_step_of_the_data_is_the_simulator(regime):
    """To float32: a hundred frames from many starts; one such step is off by the rounding of u alone."""
    data, _ = load_signal(regime / "train", regime / "inputs")
    model, starts, ahead = true_model(regime), torch.arange(0, 250, 10), (1, 10, 100)
    solver = OdeSolver("euler", 1e-4, 1e-5, False, 1e3)
    found = solver.states(model.rate, data.u[starts], model.connectivity(), ahead, data.delta_t, ())
    for k, bound in zip(ahead, (3e-6, 1e-5, 2e-4), strict=True):
        off = (found[k] - data.u[starts + k]).abs().max() / data.u.std()
        assert off < bound, (k, float(off))
    u = data.u[starts]
    for _ in range(100):
        u = u + data.delta_t * model(u)
    assert torch.equal(u, found[100])
    better = OdeSolver("rk4", 1e-4, 1e-5, False, 1e3).states(model.rate, data.u[starts], model.connectivity(), (10,),
                                                             data.delta_t, ())  # fmt: skip
    assert (better[10] - data.u[starts + 10]).abs().max() > 1e-3  # the data are Euler steps, not the ODE


@pytest.mark.parametrize("mode", MODES)
def test_the_loop_finds_no_residual_in_the_true_system(mode, models, regime):
    data, _ = load_signal(regime / "train", regime / "inputs")
    models(lambda *args: true_model(regime))
    keys = ONE_STEP | mode | {"time_step": 16, "recurrent_intermediate": 1.0, "loss": "mse", "ode_state_clamp": 1e3}
    terms = trained(data, **keys)[0].terms[0]
    assert max(terms.values()) < 1e-6 * float(data.du[:].square().mean()), terms


# --- solvers ---------------------------------------------------------------------------------------------------------

ADAPTIVE = ("dopri5",)
ORDERS = {"euler": 1, "midpoint": 2, "heun3": 3, "rk4": 4}


def decayed(method, frames_ahead, delta_t, adjoint=False, rtol=1e-5):
    """Return exp(-t) by a solver at the frames asked for, started at 1, in float64."""
    solver = OdeSolver(method, rtol, 1e-7, adjoint, 1e3)
    u, W = torch.ones(1, 1, dtype=torch.float64), torch.zeros((), requires_grad=True)
    states = solver.states(lambda u, W: -u + 0 * W, u, W, frames_ahead, delta_t, ())
    return {k: float(state.detach()) for k, state in states.items()}, solver.taken()


@pytest.mark.parametrize("adjoint", [False, True])
@pytest.mark.parametrize("method", ADAPTIVE)
def test_an_adaptive_solver_finds_one_over_e_on_the_way_and_at_the_end(method, adjoint):
    found, _ = decayed(method, range(1, 11), 0.1, adjoint)
    assert list(found) == list(range(1, 11))
    assert all(abs(value - math.exp(-0.1 * k)) < 1e-4 for k, value in found.items())


@pytest.mark.parametrize("method", FIXED_STEP)
def test_a_fixed_step_solver_converges_at_its_order(method):
    errors = [abs(decayed(method, (n,), 1 / n)[0][n] - math.exp(-1)) for n in (8, 16)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[method], abs=0.25)


def test_every_solver_of_the_schema_is_tested():
    known = SignalTraining.model_fields["ode_method"].annotation.__args__
    assert set(known) == {*ADAPTIVE, *ORDERS} and set(FIXED_STEP) == set(ORDERS)


# --- work of the solver ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "adjoint", "evaluations"),
    [("euler", False, 3), ("midpoint", False, 6), ("heun3", False, 9), ("rk4", False, 12), ("euler", True, 6)],
)
def test_evaluations_of_the_right_hand_side_are_counted(method, adjoint, evaluations):
    """Three frames, one step a frame; the adjoint solves them backwards too."""
    keys = {"neural_ODE_training": True, "time_step": 3, "ode_method": method, "ode_adjoint": adjoint}
    counts = trained(**keys, recurrent_training_start_epoch=1)[0].counts
    assert counts == [("ode_function_evaluations", evaluations)] * 2  # two steps of the second epoch


class StopAt(Run):
    """A run that gets SIGTERM after 70 of 120 steps."""

    def record(self, stateful, terms, phase, epoch, step):
        self.stop_requested = step == 70
        super().record(stateful, terms, phase, epoch, step)


def told(run_dir):
    """Return what train.json says, and the sum and the number of steps behind it."""
    kept = torch.load(run_dir / "out" / "checkpoint.pt", weights_only=True)["progress"]["counts"]
    return json.loads((run_dir / "out" / "train.json").read_text())["counts"], kept


def test_counts_survive_a_kill(tmp_path, regime):
    keys = {"neural_ODE_training": True, "time_step": 2, "ode_adjoint": False, "ode_rtol": 1e-6, "ode_atol": 1e-7}
    whole, cut = (write_order(tmp_path / name, regime, **keys) for name in ("whole", "cut"))
    signal.train(read_order(whole), whole)
    with pytest.raises(StoppedError):
        signal.train(read_order(cut), cut, StopAt)
    signal.train(read_order(cut), cut)
    assert told(whole) == told(cut)
    mean, ((name, (known, steps)),) = told(cut)[0], told(cut)[1].items()
    assert steps == 120 and mean == {name: known / steps} and name == "ode_function_evaluations"
    assert mean[name] >= 7  # a first step of dopri5 takes that many


# --- curriculum ------------------------------------------------------------------------------------------------------


def depths(time_step, first, total, **keys):
    training = read_config("signal", {"training": RECURRENT | {"time_step": time_step} | keys}).training
    return [rollout_depth(training, step, first, total) for step in range(total)]


def test_the_curriculum_doubles_in_equal_stretches():
    assert depths(8, 0, 8, recurrent_curriculum=True) == [1, 1, 2, 2, 4, 4, 8, 8]
    assert depths(6, 2, 10, recurrent_curriculum=True) == [0, 0, 1, 1, 2, 2, 4, 4, 6, 6]
    assert depths(1, 0, 3, recurrent_curriculum=True) == [1, 1, 1]
    assert depths(8, 1, 3) == [0, 8, 8]
    assert depths(4, math.inf, 3, recurrent_curriculum=True) == [0, 0, 0]
    assert set(depths(64, 0, 700, recurrent_curriculum=True)) == {1, 2, 4, 8, 16, 32, 64}
