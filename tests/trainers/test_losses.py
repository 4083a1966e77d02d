import pytest
import torch

from trainers.losses import edge_diff, prediction_loss, root_mean_square
from trainers.rollout import euler_rollout


def test_norm_is_recorded_form_and_mse_its_mean_square():
    residual = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert float(prediction_loss(residual, "norm")) == pytest.approx(5.0)
    assert float(prediction_loss(residual, "mse")) == pytest.approx(25 / 4)
    for kind in ("norm", "mse"):
        assert root_mean_square(float(prediction_loss(residual, kind)), kind, 4) == pytest.approx(2.5)


def test_edge_diff_adds_one_norm_a_frame_and_ignores_rises():
    low, high = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 1.0]]), torch.tensor([[0.0, 0.0, 9.0], [1.0, 1.0, 0.0]])
    assert float(edge_diff(low, high, "norm")) == pytest.approx(5.0 + 1.0)
    assert float(edge_diff(low, high, "mse")) == pytest.approx((9 + 16 + 1) / 6)
    assert float(edge_diff(high - 9, high, "norm")) == 0.0


def test_a_zero_penalty_has_a_zero_gradient():
    low = torch.zeros(2, 3, requires_grad=True)
    edge_diff(low, low + 1, "norm").backward()
    assert not low.grad.isnan().any() and not low.grad.any()


def test_a_rollout_starts_at_its_first_state_and_takes_euler_steps():
    frames = euler_rollout(lambda u: -u, torch.tensor([[1.0, 2.0]]), 4, 0.5)
    assert frames.shape == (1, 4, 2)
    assert torch.allclose(frames[0, :, 0], torch.tensor([1.0, 0.5, 0.25, 0.125]))
