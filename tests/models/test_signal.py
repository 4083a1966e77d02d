import pytest
import torch

from models.signal import SignalPropagation
from models.utils import decrease, sample_frames


@pytest.fixture
def model():
    torch.manual_seed(3)
    model = SignalPropagation(7, embedding_dim=2, edge=(8, 3), phi=(8, 3), single_type=False)
    with torch.no_grad():
        model.a.copy_(torch.randn(7, 2))
        model.W.fill_diagonal_(5.0)  # masked: must not act
    return model


def per_edge(model, u):
    """The equation, one edge at a time."""
    n = len(u)
    du = []
    for i in range(n):
        total = model.lin_phi(torch.cat([u[i : i + 1], model.a[i]]))
        for j in range(n):
            if j != i:
                total = total + model.W[i, j] * model.lin_edge(torch.cat([u[j : j + 1], model.a[j]]))
        du.append(total)
    return torch.cat(du)


def test_names_that_the_instruction_shows_stay_verbatim(model):
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"W", "a", "lin_edge", "lin_phi"}


def test_initial_values():
    torch.manual_seed(0)
    model = SignalPropagation(60, single_type=True)
    off = model.W.detach()[~torch.eye(60, dtype=torch.bool)]
    assert abs(float(off.std()) - 1.0) < 0.05
    assert not model.W.diagonal().any()
    assert torch.equal(model.a, torch.ones(60, 2))
    assert "a" not in dict(model.named_parameters())


@pytest.mark.parametrize("rank", [0, 5])
@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_the_first_W_has_the_scale_that_was_asked_for(scale, rank):
    torch.manual_seed(0)
    model = SignalPropagation(200, W_init_scale=scale, W_rank=rank)
    assert float(model.W.detach().std()) == pytest.approx(scale, rel=0.1)
    model(torch.randn(3, 200)).sum().backward()
    assert any(p.grad.any() for name, p in model.named_parameters() if name.startswith("W"))  # also from zeros


def test_a_low_rank_W_is_the_product_of_two_parameters():
    model = SignalPropagation(9, W_rank=2)
    assert {"W_L", "W_R"} <= (names := {n for n, _ in model.named_parameters()}) and "W" not in names
    assert model.W.shape == (9, 9) and torch.equal(model.W, model.W_L @ model.W_R)
    assert torch.linalg.matrix_rank(model.W.detach()) == 2
    assert not model.connectivity().diagonal().any() and model.W.diagonal().any()
    with pytest.raises(AttributeError, match="V"):
        _ = model.V


def test_a_fixed_lin_edge_is_tanh_and_has_nothing_to_learn():
    model, u = SignalPropagation(6, lin_edge_mode="tanh"), 3 * torch.randn(2, 6)
    assert torch.equal(model.sent(u), torch.tanh(u))
    assert not list(model.lin_edge.parameters())


def test_a_free_diagonal_starts_at_zero_and_acts():
    model, u = SignalPropagation(6, W_zero_diagonal=False), torch.randn(2, 6)
    before = model(u)
    assert not model.W.diagonal().any()
    with torch.no_grad():
        model.W.fill_diagonal_(2.0)
    assert torch.allclose(model(u) - before, 2.0 * model.sent(u), atol=1e-5)


def test_the_dense_sum_is_the_sum_over_edges(model):
    u = 3 * torch.randn(4, 7)
    wanted = torch.stack([per_edge(model, row) for row in u])
    assert torch.allclose(model(u), wanted, atol=1e-5)


@pytest.mark.parametrize("options", [{"lin_edge_mode": "tanh"}, {"W_rank": 3}, {"W_rank": 3, "W_zero_diagonal": False}])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_message_passing_agrees_for_every_form_of_the_model(options):
    from models.signal_message_passing import SignalMessagePassing, complete_graph

    torch.manual_seed(4)
    model, u = SignalPropagation(7, **options), 3 * torch.randn(7)
    edges = complete_graph(7, self_loops="W_zero_diagonal" in options)
    assert edges.shape[1] == (49 if "W_zero_diagonal" in options else 42)
    assert torch.allclose(SignalMessagePassing(model)(u, edges), model(u), atol=1e-5)
    looped = SignalMessagePassing(model)(u, complete_graph(7, self_loops=True))
    assert torch.allclose(looped, model(u), atol=1e-5)  # a masked diagonal carries nothing along a self-loop


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_message_passing_is_the_same_equation_and_gradient(model):
    from models.signal_message_passing import SignalMessagePassing, complete_graph

    slow, u = SignalMessagePassing(model), 3 * torch.randn(7)
    edges = complete_graph(7)
    assert edges.shape == (2, 42)
    assert torch.allclose(slow(u, edges), model(u), atol=1e-5)
    dense = torch.autograd.grad(model(u).square().sum(), model.W)[0]
    assert torch.allclose(torch.autograd.grad(slow(u, edges).square().sum(), model.W)[0], dense, atol=1e-4)
    one_way = torch.tensor([[0], [1]])  # source 0, target 1
    moved = slow(u, one_way) - model.self_term(u)
    assert moved.abs().argmax() == 1
    assert torch.isclose(moved[1], model.W[1, 0] * model.sent(u)[0], atol=1e-6)


def test_gradient_of_W_against_finite_differences():
    torch.manual_seed(1)
    model = SignalPropagation(5, edge=(4, 2), phi=(4, 2)).double()
    u = torch.randn(3, 5, dtype=torch.float64)
    model(u).square().sum().backward()
    numeric = torch.zeros(5, 5, dtype=torch.float64)
    with torch.no_grad():
        for i in range(5):
            for j in range(5):
                values = []
                for sign in (1, -1):
                    model.W[i, j] += sign * 1e-6
                    values.append(float(model(u).square().sum()))
                    model.W[i, j] -= sign * 1e-6
                numeric[i, j] = (values[0] - values[1]) / 2e-6
    assert torch.allclose(model.W.grad, numeric, atol=1e-6)
    assert not model.W.grad.diagonal().any()


def test_curves_follow_each_neuron(model):
    grid = torch.linspace(-2, 2, 5)
    lin_edge, lin_phi = model.curves(grid)
    assert lin_edge.shape == lin_phi.shape == (7, 5)
    state = torch.full((7,), float(grid[1]))
    assert torch.allclose(lin_edge[:, 1], model.sent(state), atol=1e-6)
    assert torch.allclose(lin_phi[:, 1], model.self_term(state), atol=1e-6)


def test_frames_are_drawn_from_the_given_generator():
    draws = [sample_frames(50, 8, torch.Generator().manual_seed(4)) for _ in range(2)]
    assert torch.equal(*draws)
    assert draws[0].max() < 50


def test_decrease_sees_only_falls():
    assert torch.equal(decrease(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])), torch.tensor([0.5, 0.0]))
