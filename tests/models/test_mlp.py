import pytest
import torch

from models.mlp import ACTIVATIONS, MLP


def test_later_layers_start_small_and_without_bias():
    torch.manual_seed(0)
    mlp = MLP(3, 1, n_layers=3, hidden_dim=64)
    assert [tuple(layer.weight.shape) for layer in mlp.layers] == [(64, 3), (64, 64), (1, 64)]
    for layer in mlp.layers[1:]:
        assert abs(float(layer.weight.detach().std()) - 0.1) < 0.03
        assert not layer.bias.any()
    assert mlp.layers[0].bias.any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_row_has_its_own_output(activation):
    mlp = MLP(3, 2, n_layers=2, hidden_dim=8, activation=activation)
    x = torch.randn(4, 5, 3)
    assert mlp(x).shape == (4, 5, 2)
    assert torch.allclose(mlp(x)[1, 2], mlp(x[1, 2]), atol=1e-6)


def test_activations_differ():
    outputs = set()
    for activation in ACTIVATIONS:
        torch.manual_seed(0)
        outputs.add(round(float(MLP(1, 1, 3, 16, activation)(torch.tensor([0.7])).detach()), 6))
    assert len(outputs) == len(ACTIVATIONS)


def test_a_wrong_activation_names_the_valid_ones():
    with pytest.raises(ValueError, match="relu, leaky_relu, tanh"):
        MLP(1, 1, 3, 4, "swish")
    with pytest.raises(ValueError, match="at least 2"):
        MLP(1, 1, 1, 4)
