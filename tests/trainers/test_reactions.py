"""Metabolic networks: the recorded reactions, conserved mass, limits of flux, and what the data determine."""

from collections import Counter

import numpy as np
import pytest

from trainers.prepare.identify import identify
from trainers.prepare.reactions import draw_network, simulate_run
from trainers.settings_metabolism import Metabolism

CYCLES = {
    "n_metabolite_types": 2, "cycle_fraction": 1.0, "cycle_length": 3, "use_mass_action": True, "log_k_min": -2.0,
    "log_k_max": -1.0, "flux_limit": False, "homeostatic_lambda": [0.001, 0.002], "homeostatic_baseline": [4.0, 6.0],
    "c_min": 1.0, "c_max": 9.0, "delta_t": 0.1,
}  # fmt: skip
RECORDED_PAIRS = [[11, 189], [22, 115], [23, 128], [44, 193], [68, 163], [70, 217], [116, 120], [169, 184]]


def test_random_reactions_of_seed_42_are_the_recorded_ones():
    network = draw_network(Metabolism())
    values = Counter(network.S[network.S != 0].astype(int).tolist())
    assert len(network.met_sub) == 524
    assert values == {-2: 262, -1: 262, 1: 231, 2: 141, 3: 36, 4: 23, 5: 11, 6: 3}
    assert np.array_equal(network.S.sum(axis=0), np.zeros(256))


def test_cycles_of_seed_42_have_255_reactions_and_leave_one_empty():
    network = draw_network(Metabolism(**CYCLES))
    assert np.array_equal(np.flatnonzero(~network.S.any(axis=0)), [255])
    assert set(np.unique(network.S)) == {-1.0, 0.0, 1.0}
    assert np.array_equal(network.S.sum(axis=0), np.zeros(256))
    assert np.array_equal(network.order, np.ones(510))


def test_an_autocatalytic_reaction_has_order_1_in_both_of_its_metabolites():
    network = draw_network(Metabolism(**CYCLES))
    c = np.random.default_rng(0).uniform(1, 2, (3, 100))
    food, catalyst = (int(np.flatnonzero(network.S[:, 7] == sign)[0]) for sign in (-1, 1))
    assert np.allclose(network.rates(c)[:, 7], 10 ** network.log_k[7] * c[:, food] * c[:, catalyst])


def test_the_data_determine_all_but_the_recorded_pairs_and_the_empty_reaction():
    network = draw_network(Metabolism(**CYCLES))
    run = simulate_run(network, Metabolism(**CYCLES), np.random.default_rng(1), 1000)
    found = identify(network, run.c, run.dc)
    assert sorted(g for g in found.groups if len(g) > 1) == RECORDED_PAIRS
    assert [g for g in found.groups if len(g) == 1] == [[255]]
    assert found.identifiable.sum() == 239
    assert np.abs(found.log_k - network.log_k)[found.identifiable].max() < 1e-4
    assert np.allclose(found.homeostasis, [[-0.001, 0.004], [-0.002, 0.012]], rtol=1e-3)
    together = 10.0 ** found.log_k[[11, 189]]
    assert np.isclose(together.sum(), (10.0 ** network.log_k[[11, 189]]).sum())
    assert together[0] == together[1]
    apart = 10.0 ** found.log_k[[70, 217]]
    assert np.isclose(apart[0] - apart[1], np.subtract(*10.0 ** network.log_k[[70, 217]]))


def test_reactions_conserve_mass_and_homeostasis_does_not():
    simulation = Metabolism(**CYCLES | {"homeostatic_lambda": [0.0, 0.0]})
    run = simulate_run(draw_network(simulation), simulation, np.random.default_rng(1), 500)
    assert np.allclose(run.c.sum(axis=1), run.c[0].sum(), rtol=1e-9)
    moved = simulate_run(draw_network(Metabolism(**CYCLES)), Metabolism(**CYCLES), np.random.default_rng(1), 500)
    assert abs(moved.c.sum(axis=1)[-1] - moved.c[0].sum()) > 1.0


def test_a_limited_flux_never_takes_more_than_there_is():
    simulation = Metabolism(log_k_min=-1.0, log_k_max=1.0)
    network = draw_network(simulation)
    c = np.random.default_rng(2).uniform(0.0, 2.0, (20, 100))
    free, limited = network.rates(c), network.limited(c, network.rates(c))

    def taken(v):
        found = np.zeros_like(c)
        np.add.at(found, (slice(None), network.met_sub), network.order * v[:, network.rxn_sub])
        return found

    assert (taken(free) > c).any()
    assert (taken(limited) <= c * (1 + 1e-9)).all()
    assert (limited <= free).all()


def test_without_a_limit_the_same_network_is_free():
    c = np.full((1, 100), 0.01)
    loose, tight = (draw_network(Metabolism(flux_limit=on)) for on in (False, True))
    assert not np.allclose(loose.rhs(c), tight.rhs(c))


def test_a_circadian_baseline_moves_with_its_period():
    network = draw_network(Metabolism(**CYCLES | {"circadian_amplitude": 0.5, "circadian_period": 8.0}))
    c = np.full((3, 100), 4.0)
    found = network.homeostasis(c, np.array([0.0, 2.0, 6.0]))
    assert np.allclose(found[:, 0], [0.0, 0.001 * 2.0, -0.001 * 2.0])


def test_pulses_hit_some_concentrations_and_conserve_their_sign():
    keys = CYCLES | {"perturbation_every": 10, "perturbation_part": 0.3, "perturbation_strength": 1.0}
    simulation = Metabolism(**keys)
    network = draw_network(simulation)
    run = simulate_run(network, simulation, np.random.default_rng(4), 31)
    jumps = np.abs(run.c[1:] - np.maximum(run.c[:-1] + 0.1 * run.dc[:-1], 0.0)) > 1e-9
    assert jumps.any(axis=1).nonzero()[0].tolist() == [9, 19, 29]
    assert 10 < jumps[9].sum() < 60
    assert np.allclose(run.dc[10], network.rhs(run.c[10:11], 1.0)[0])
    assert (run.c > 0).all()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"log_k_min": -1.0, "log_k_max": -2.0}, "log_k_min: expected less than log_k_max"),
        ({"c_min": 9.0}, "c_min: expected less than c_max"),
        ({"homeostatic_lambda": [0.1, 0.2]}, r"homeostatic_lambda: expected 1 number\(s\)"),
        ({"homeostatic_baseline": [-1.0]}, "homeostatic_baseline: expected numbers from 0"),
        ({"cycle_length": 101, "n_metabolites": 50}, "less than or equal to 100"),
        ({"decoy_edges": True, "stoichiometry_given": True}, "decoy_edges: S is given"),
        ({"max_metabolites_per_reaction": 60, "n_metabolites": 50}, "max_metabolites_per_reaction"),
        ({"cycle_fraction": 1.0, "n_reactions": 2}, "n_reactions: expected at least cycle_length"),
    ],
)
def test_a_network_that_cannot_be_is_refused_by_name(keys, told):
    with pytest.raises(ValueError, match=told):
        Metabolism(**keys)
