"""The metabolic models: fast paths against message passing and the generator, gauge, limits, first values."""

import numpy as np
import pytest
import torch

from models import stoichiometry
from models.homeostasis import HomeostasisPropagation
from models.metabolism import Graph
from models.stoichiometry import SIGN_FLOOR, StoichiometryPropagation
from trainers.losses_metabolism import S_floor, mass
from trainers.prepare.metabolic_files import with_decoys
from trainers.prepare.reactions import draw_network
from trainers.settings_metabolism import Metabolism

RANDOM = Metabolism(n_metabolites=20, n_reactions=30, log_k_min=-1.0, log_k_max=1.0)
CYCLES = Metabolism(n_metabolites=20, n_reactions=31, cycle_fraction=1.0, cycle_length=3, use_mass_action=True,
                    flux_limit=False)  # fmt: skip


def graph_of(network, decoys=False, given=False):
    met, rxn = np.nonzero(with_decoys(network.S, 0) if decoys else network.S)
    known = {}
    if given:
        known = {"order": torch.tensor(network.order).float(), "sto": torch.tensor(network.S[met, rxn]).float()}
    edges = [torch.tensor(x) for x in (network.met_sub, network.rxn_sub, met, rxn)]
    return Graph(*edges, n_metabolites=network.S.shape[0], n_reactions=network.S.shape[1], **known)


def message_passing(model, graph):
    from models.metabolism_message_passing import MetabolismMessagePassing  # the import takes seconds and warns

    return MetabolismMessagePassing(model, graph)


WARNS = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def concentrations(count=4):
    c = 3 * torch.rand(count, 20, generator=torch.Generator().manual_seed(1))
    c[0, 3] = 0.0
    return c


@WARNS
@pytest.mark.parametrize("limit", [False, True])
@pytest.mark.parametrize("decoys", [False, True])
@pytest.mark.parametrize("extra", [False, True])
def test_learned_stoichiometry_is_message_passing(limit, decoys, extra):
    torch.manual_seed(0)
    graph = graph_of(draw_network(RANDOM), decoys)
    model = StoichiometryPropagation(graph, (8, 3), 4, flux_limit=limit, gauge=extra, sto_init=("randn", 1.0),
                                     node=(6, 2, 2) if extra else None)  # fmt: skip
    with torch.no_grad():
        if extra:
            model.gauge.copy_(0.3 * torch.randn(30))
            model.node_func[-1].bias.fill_(0.2)
    slow, c = message_passing(model, graph), concentrations()
    assert torch.allclose(torch.stack([slow(x) for x in c]), model(c), rtol=1e-5, atol=1e-5)


@WARNS
@pytest.mark.parametrize("softplus", [False, True])
def test_given_stoichiometry_is_message_passing(softplus):
    torch.manual_seed(0)
    graph = graph_of(draw_network(CYCLES), given=True)
    model = HomeostasisPropagation(graph, (8, 3), (6, 2), legacy_softplus=softplus)
    slow, c = message_passing(model, graph), concentrations()
    assert torch.allclose(torch.stack([slow(x) for x in c]), model(c), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("limit", [False, True])
def test_the_true_parameters_give_the_generator(limit):
    network = draw_network(RANDOM)._replace(flux_limit=limit)
    met, rxn = np.nonzero(network.S)
    model = StoichiometryPropagation(graph_of(network), (32, 3), 16, flux_limit=limit).double()
    with torch.no_grad():
        model.sto_all.copy_(torch.tensor(network.S[met, rxn]))
        model.log_k.copy_(torch.tensor(network.log_k))
        for net, true in ((model.substrate_func, network.substrate_func), (model.rate_func, network.rate_func)):
            linear = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
            for layer, (weight, bias) in zip(linear, true.layers, strict=True):
                layer.weight.copy_(torch.tensor(weight.T))
                layer.bias.copy_(torch.tensor(bias))
        c = concentrations().double()
        assert np.allclose(model(c).numpy(), network.rhs(c.numpy()), rtol=1e-9, atol=1e-9)


def test_no_reaction_takes_more_than_there_is():
    torch.manual_seed(0)
    network = draw_network(RANDOM)
    model = StoichiometryPropagation(graph_of(network), (8, 3), 4, flux_limit=True, sto_init=("graph_sign", 3.0),
                                     log_k_init=(1.0, 1.0))  # fmt: skip
    c = concentrations()
    taken = model.rates(c) @ (-model.S()).clamp(min=0).T
    assert (taken <= c * (1 + 1e-5)).all() and (taken > 0.999 * c).any()


def test_folding_the_gauge_changes_no_rate():
    torch.manual_seed(0)
    model = StoichiometryPropagation(graph_of(draw_network(RANDOM)), (8, 3), 4, gauge=True, flux_limit=True)
    with torch.no_grad():
        model.gauge.copy_(torch.randn(30))
    before, s, c = model(concentrations()), model.s().clone(), concentrations()
    model.fold_gauge_()
    assert torch.allclose(model(c), before, rtol=1e-4, atol=1e-6)
    assert not model.gauge.any() and torch.allclose(model.sto_all, s)


def test_signs_of_the_graph_are_put_back():
    torch.manual_seed(0)
    model = StoichiometryPropagation(graph_of(draw_network(RANDOM)), (8, 3), 4, sto_init=("randn", 1.0))
    before = model.sto_all.detach().clone()
    model.constrain_sign_()
    right = torch.sign(before) == model.sign
    assert torch.equal(model.sto_all[right], before[right]) and not right.all()
    assert torch.equal(model.sto_all[~right], SIGN_FLOOR * model.sign[~right])


@torch.no_grad()
def test_learned_values_start_from_the_documented_distributions():
    torch.manual_seed(0)
    graph = graph_of(draw_network(Metabolism()))
    model = StoichiometryPropagation(graph)
    assert len(model.sto_all) == 969 and float(model.sto_all.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(model.sto_all.std()) == pytest.approx(0.1, rel=0.1)
    assert -2.0 <= float(model.log_k.min()) < -1.9 and 0.9 < float(model.log_k.max()) <= 1.0
    signed = StoichiometryPropagation(graph, sto_init=("graph_sign", 2.0), log_k_init=(-2.0, 2.0))
    sizes = signed.sto_all.abs()
    assert torch.equal(torch.sign(signed.sto_all), signed.sign)
    assert 1.0 <= float(sizes.min()) < 1.05 and 3.9 < float(sizes.max()) <= 4.0
    assert float(signed.log_k.min()) >= -3.0 and float(signed.log_k.max()) <= -1.0


def test_the_names_that_the_seed_shows_are_there():
    model = StoichiometryPropagation(graph_of(draw_network(RANDOM)), node=(6, 2, 2))
    for name in ("sto_all", "log_k", "substrate_func", "rate_func", "a", "node_func", "met_sub", "rxn_sub", "met_all",
                 "rxn_all", "sub_to_all"):  # fmt: skip
        assert hasattr(model, name)
    assert not StoichiometryPropagation(graph_of(draw_network(RANDOM), given=True), freeze=True).sto_all.requires_grad


def test_flat_rates_are_those_of_a_rate_func_that_starts_at_0():
    torch.manual_seed(0)
    model = StoichiometryPropagation(graph_of(draw_network(RANDOM)), (8, 3), 4, flat_start=True)
    c = concentrations()
    assert torch.allclose(model(c), model(c, flat=True), rtol=1e-5)


def plain(**options):
    torch.manual_seed(4)
    return StoichiometryPropagation(graph_of(draw_network(RANDOM)), (8, 3), 4, sto_init=("graph_sign", 1.0), **options)


@pytest.mark.parametrize("options", [{}, {"flux_limit": True, "node": (6, 2, 2)}])
def test_a_refit_puts_wrong_signs_right(options, monkeypatch):
    """Signs do not touch the rates, so the least squares at those rates are the matrix that made dc/dt."""
    monkeypatch.setattr(stoichiometry, "REFIT_RIDGE", 1e-10)  # exact rates, and hardly varying ones
    model, c = plain(**options), 3 * torch.rand(600, 20, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for p in (*model.substrate_func.parameters(), *model.rate_func.parameters()):
            p.mul_(3.0)  # rates that vary
        dc, true = model(c), model.sto_all.clone()
        model.sto_all[::7] *= -1.0
    model.refit_(c, dc, torch.ones(()), mass=0.0)
    assert torch.equal(model.sto_all.sign(), true.sign())


def test_a_refit_is_the_least_squares_at_the_rates_and_keeps_the_size_of_every_reaction():
    model, c = plain(), 3 * torch.rand(600, 20, generator=torch.Generator().manual_seed(2))
    dc, unit = torch.randn(600, 20, generator=torch.Generator().manual_seed(5)), torch.linspace(0.5, 1.5, 20)
    with torch.no_grad():
        v, sizes, log_k = model.rates(c), model._sizes(), model.log_k.clone()
        before = ((v @ model.S().T - dc) / unit).square().mean()
        model.refit_(c, dc, unit, mass=0.0)
        grown = 10 ** (model.log_k - log_k)
        after = ((v @ (model.S() * grown).T - dc) / unit).square().mean()
    best = [np.linalg.lstsq(v[:, model.rxn_all[model.met_all == i]].numpy(), dc[:, i].numpy(), rcond=None)[0]
            for i in range(20)]  # fmt: skip
    rest = [dc[:, i].numpy() - v[:, model.rxn_all[model.met_all == i]].numpy() @ best[i] for i in range(20)]
    least = np.mean([np.mean(r**2) / float(unit[i]) ** 2 for i, r in enumerate(rest)])
    assert torch.allclose(model._sizes(), sizes, rtol=1e-4)
    assert least <= float(after) < 1.01 * least < float(before)


def test_a_refit_with_mass_balances_every_column():
    model, c = plain(), 3 * torch.rand(600, 20, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        dc = model(c) + 0.1 * torch.randn(600, 20)
        sums = [float(mass(model.sto_all, model.rxn_all, 30))]
        for weight in (0.0, 1e3):
            model.refit_(c, dc, torch.ones(()), weight)
            sums.append(float(mass(model.sto_all, model.rxn_all, 30)))
    assert sums[2] < 1e-4 < min(sums[:2])


def test_the_floor_leaves_out_what_is_small_beside_its_reaction():
    sto = torch.tensor([0.5, -0.05, 4.0, -0.05], requires_grad=True)
    rxn = torch.tensor([0, 0, 1, 1])
    S_floor(sto, rxn, 2, 0.05).backward()
    assert (sto.grad != 0).tolist() == [True, True, False, False]
    assert float(S_floor(sto.detach(), rxn, 2)) == pytest.approx((0.25 + 2 * 0.95**2) / 4)
