"""The metabolic model with given S: the truth is representable, the fast path is the equation, the gauge is free."""

import numpy as np
import pytest
import torch

from models.homeostasis import HomeostasisPropagation
from models.metabolism import Graph
from tests.trainers.metabolism import config, trained, write_spec
from trainers.data_metabolism import load_metabolism
from trainers.homeostasis import new_model
from trainers.prepare.build import prepare
from trainers.prepare.metabolic_guard import expected, mass_action
from trainers.scoring.metabolism import load_truth


@pytest.fixture(scope="module")
def regime(tmp_path_factory):
    folder = tmp_path_factory.mktemp("homeostasis")
    prepare(write_spec(folder / "SPEC.yaml"), folder / "data")
    return folder / "data"


def graph():
    """Return three reactions: 0 + 1 -> 2, 2 (order 2) -> 0, and an empty one."""
    return Graph(
        met_sub=torch.tensor([0, 1, 2]), rxn_sub=torch.tensor([0, 0, 1]), met_all=torch.tensor([0, 1, 2, 2, 0]),
        rxn_all=torch.tensor([0, 0, 0, 1, 1]), n_metabolites=3, n_reactions=3, order=torch.tensor([1.0, 1.0, 2.0]),
        sto=torch.tensor([-1.0, -1.0, 1.0, -2.0, 1.0]),
    )  # fmt: skip


def model_of(**keys):
    torch.manual_seed(0)
    return HomeostasisPropagation(graph(), (8, 3), (8, 2), **keys)


def test_the_fast_path_is_the_equation_edge_by_edge():
    model, c = model_of(activation="relu"), torch.rand(5, 3) * 5
    torch.nn.init.normal_(model.node_func[-1].weight)
    k = 10.0**model.log_k
    f = lambda x, s: model.substrate_func(torch.tensor([x, s])).abs().squeeze()  # noqa: E731
    for row, found in zip(c, model(c), strict=True):
        v = [k[0] * f(row[0], 1.0) * f(row[1], 1.0), k[1] * f(row[2], 2.0)]
        expected = torch.stack([-v[0] + v[1], -v[0], v[0] - 2 * v[1]])
        home = [model.node_func(torch.cat([row[i : i + 1], model.a[i]])).squeeze() for i in range(3)]
        assert torch.allclose(found, expected + torch.stack(home), rtol=1e-5, atol=1e-6)


def test_the_true_parameters_express_mass_action_exactly_and_the_legacy_softplus_cannot(regime):
    data, _ = load_metabolism(regime / "train", regime / "inputs")
    truth = load_truth(regime)
    losses = {}
    for legacy in (False, True):
        model = new_model(data.graph, config(legacy_softplus=legacy).graph_model, config().training).double()
        model.f = lambda c, order: c**order
        model.homeostasis = lambda c: (
            torch.from_numpy(truth.decay[truth.types]) * (torch.from_numpy(truth.baseline[truth.types]) - c)
        )
        with torch.no_grad():
            model.log_k.copy_(torch.from_numpy(truth.log_k))
            c = torch.rand(50, 12).double() * 2
            true = expected(c.numpy(), np.zeros(50), truth._asdict(), (0.0, 1.0), mass_action)
            losses[legacy] = float((model(c) - torch.from_numpy(true)).square().mean())
    assert losses[False] < 1e-10
    assert losses[True] > 1e-5


def test_a_reaction_without_edges_has_rate_0_whatever_its_k():
    assert not model_of().rates(torch.rand(4, 3))[:, 2].any()
    assert not model_of(legacy_softplus=True).rates(torch.rand(4, 3))[:, 2].any()


def test_fixing_the_gauge_changes_no_rate_and_makes_alpha_1():
    model, c, one = model_of(activation="relu").requires_grad_(False), torch.rand(5, 3) * 5, torch.ones(1)
    before, empty = model.rates(c), float(model.log_k[2])
    assert abs(float(model.f(one, one)) - 1.0) > 0.1
    model.fix_gauge_()
    assert float(model.f(one, one)) == pytest.approx(1.0, abs=1e-6)
    assert torch.allclose(model.rates(c), before, rtol=1e-4)
    assert float(model.log_k[2]) == empty


def test_learned_values_start_from_the_documented_distribution(regime):
    data, _ = load_metabolism(regime / "train", regime / "inputs")
    many = data.graph._replace(n_reactions=20000)
    torch.manual_seed(1)
    wide = HomeostasisPropagation(many, (8, 3), (8, 2), freeze_stoichiometry=False).requires_grad_(False)
    assert -2.0 <= float(wide.log_k.min()) < -1.99 and 0.99 < float(wide.log_k.max()) <= 1.0
    assert float(wide.log_k.mean()) == pytest.approx(-0.5, abs=0.03)
    narrow = HomeostasisPropagation(many, (8, 3), (8, 2), log_k_init_width=0.2).requires_grad_(False)
    assert float((narrow.log_k + 0.5).abs().max()) <= 0.1
    assert float(narrow.a.std()) == pytest.approx(0.1, rel=0.5)
    assert float(wide.sto_all.std()) == pytest.approx(0.1, rel=0.5)
    assert not wide.homeostasis(torch.rand(2, 12)).any()
    first = trained(regime, learning_rate_k=1e-9, coeff_k_floor=0.0)[1]["log_k"]
    torch.manual_seed(config().training.seed)
    start = new_model(data.graph, config().graph_model, config().training).log_k
    assert torch.allclose(first, start.detach(), atol=1e-6)
    truth = torch.from_numpy(load_truth(regime).log_k).float()
    assert float((start.detach() - truth).abs().mean()) > 0.3


def test_gradients_reach_every_learned_quantity(regime):
    data, _ = load_metabolism(regime / "train", regime / "inputs")
    torch.manual_seed(0)
    model = new_model(data.graph, config().graph_model, config(freeze_stoichiometry=False).training)
    torch.nn.init.normal_(model.node_func[-1].weight)
    (model(data.c[0, :7]) - data.dc[0, :7]).square().mean().backward()
    for name, value in model.named_parameters():
        assert value.grad is not None and bool(value.grad.any()), name
    assert float(model.log_k.grad[9]) == 0.0
