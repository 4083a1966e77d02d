"""The sinusoidal network: its start, what it can fit, its derivatives."""

import math

import pytest
import torch

from models.inr import Siren, SirenShape

WIDE = SirenShape(dimension=3, components=3, hidden=512, layers=4, omega=30.0)


def grid(n, dimension=3):
    torch.manual_seed(0)
    return torch.rand(n, 1), torch.rand(n, dimension)


def pre_activations(model, t, x):
    """Return omega W x of every hidden layer, whose start the published result is about (it leaves out biases)."""
    seen = []
    hooks = [layer.register_forward_hook(lambda m, _, out: seen.append(model.shape.omega * (out - m.bias)))
             for layer in model.hidden]  # fmt: skip
    model(t, x)
    for hook in hooks:
        hook.remove()
    return seen


def test_weights_start_as_published():
    torch.manual_seed(1)
    model = Siren(WIDE)
    assert model.first.weight.abs().max() <= 1 / 4
    assert model.first.weight.std().item() == pytest.approx(1 / 4 / math.sqrt(3), rel=0.05)
    for layer in (*model.hidden, model.last):
        bound = math.sqrt(6 / 512) / 30.0
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


def test_every_hidden_layer_sees_pre_activations_of_standard_deviation_1():
    torch.manual_seed(2)
    t, x = grid(2000)
    with torch.no_grad():
        stds = [z.std().item() for z in pre_activations(Siren(WIDE), t, x)]
    assert len(stds) == 4
    assert stds == pytest.approx([1.0] * 4, abs=0.1)


@pytest.mark.parametrize("periodic", [False, True])
def test_32_points_are_fitted_to_a_millionth(periodic):
    torch.manual_seed(3)
    model = Siren(SirenShape(dimension=3, components=3, hidden=64, layers=2, omega=10.0, periodic=periodic))
    t, x = grid(32)
    y = torch.randn(32, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(2000):
        loss = (model(t, x) - y).square().mean()
        if loss.item() < 1e-6:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 1e-3 * 0.5 * (1.01 + math.cos(math.pi * step / 2000))
    assert (model(t, x) - y).square().mean().item() < 1e-6


def test_the_derivative_is_finite_and_that_of_finite_differences():
    torch.manual_seed(4)
    model = Siren(SirenShape(dimension=2, components=1, hidden=32, layers=2, omega=10.0)).double()
    t, x = torch.rand(5, 1).double(), torch.rand(5, 2).double().requires_grad_(True)
    slope = torch.autograd.grad(model(t, x).sum(), x)[0]
    assert torch.isfinite(slope).all()
    for axis in range(2):
        step = torch.zeros(2).double()
        step[axis] = 1e-6
        difference = (model(t, x.detach() + step) - model(t, x.detach() - step))[:, 0] / 2e-6
        assert torch.allclose(difference, slope[:, axis], rtol=1e-5, atol=1e-6)


def test_a_periodic_field_is_the_same_one_box_on_and_the_plain_one_is_not():
    t, x = grid(20)
    for periodic, equal in ((True, True), (False, False)):
        model = Siren(SirenShape(dimension=3, components=3, hidden=16, layers=1, omega=5.0, periodic=periodic))
        with torch.no_grad():
            assert torch.allclose(model(t, x), model(t, x + 1.0), atol=1e-4) == equal


def test_gradient_mode_is_minus_the_gradient_of_one_potential_and_can_be_trained():
    torch.manual_seed(5)
    model = Siren(SirenShape(dimension=2, components=2, hidden=16, layers=1, omega=5.0, gradient_mode=True))
    t, x = grid(6, 2)
    with torch.no_grad():
        field = model(t, x)
    assert field.shape == (6, 2) and not field.requires_grad and model.last.out_features == 1
    steps = torch.eye(2) * 1e-3
    for axis in range(2):
        with torch.no_grad():
            up, down = (model.network(model.encode(t, x + sign * steps[axis])) for sign in (1, -1))
        assert torch.allclose(-(up - down)[:, 0] / 2e-3, field[:, axis], rtol=1e-2, atol=1e-3)
    model(t, x).square().mean().backward()
    assert model.first.weight.grad.abs().max() > 0


def test_time_has_its_own_frequency_and_the_periods_divide():
    shape = SirenShape(dimension=2, components=1, hidden=8, layers=0, omega=4.0, omega_t=20.0, t_period=2.0,
                       xy_period=0.5)  # fmt: skip
    model = Siren(shape)
    weight = model.first.weight.detach()
    found = model.frequencies().detach()
    assert torch.allclose(found[:, 0], weight[:, 0] * 20.0 / 2.0) and torch.allclose(
        found[:, 1:], weight[:, 1:] * 4.0 / 0.5)  # fmt: skip
    t, x = torch.zeros(1, 1), torch.zeros(1, 2)
    with torch.no_grad():
        moved = model.network(model.encode(t + 0.1, x))
        at_zero = 4.0 * model.first.bias
        right = model.last(torch.sin(at_zero + 0.1 * found[:, 0]))
    assert torch.allclose(moved, right[None], atol=1e-5)


def test_fewer_bits_stay_near():
    torch.manual_seed(6)
    narrow = Siren(WIDE, "bfloat16")
    exact = Siren(WIDE)
    exact.load_state_dict(narrow.state_dict())
    t, x = grid(50)
    with torch.no_grad():
        error = (narrow(t, x) - exact(t, x)).std() / exact(t, x).std()
    assert 0 < error.item() < 0.3
