import numpy as np
import pytest

from trainers.prepare.activity import Recording, connectivity, rank_of
from trainers.prepare.simulator import draw_system, generators, integrate, trajectory
from trainers.scoring.metrics import pearson
from trainers.settings import Simulation

PARAMS = [[1.3, 0.2, 7.0, 0.4, 1.5, 0.3]]


def simulated(seed=1, n=50, frames=3000, filling=0.5, **keys):
    simulation = Simulation(n_neurons=n, n_frames=frames, connectivity_filling_factor=filling, seed=seed, **keys)
    rng = generators(seed)
    system = draw_system(simulation, rng)
    return simulation, system, rng, trajectory(system, rng["first_state"], simulation, frames)


@pytest.mark.parametrize("filling", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("params", [[[1.0, 0.0, 7.0, 0.0, 1.0, 0.0]], PARAMS])
def test_least_squares_returns_the_saved_W(filling, params):
    """The transposed edge list of the recorded simulator fails here: R2 about the filling factor."""
    _, system, _, _ = simulated(filling=filling, params=params)
    states = np.random.default_rng(0).normal(0, 2, (3000, 50))  # any state will do: no condition number to guard
    a, b, g, s, w, h = params[0]
    du = integrate(system, states[0], 1, 0.01)
    assert np.allclose((du[1] - du[0]) / 0.01, system.rhs(states[0]))
    target = (system.rhs(states) + a * states - b - s * np.tanh(states)) / g
    found = np.linalg.lstsq(np.tanh((states - h) / w), target, rcond=None)[0].T
    assert pearson(found.ravel(), system.W.ravel()) ** 2 > 0.9999
    transposed = system.W * (system.W != 0).T
    if filling == 0.5:
        assert pearson(found.ravel(), transposed.ravel()) ** 2 < 0.7


def test_frames_are_copies_and_follow_from_du():
    simulation, system, _, u = simulated()
    assert not np.allclose(u[0], u[100])
    u32 = u.astype(np.float32).astype(float)
    step = np.diff(u32, axis=0) / simulation.delta_t
    du = system.rhs(u32)[:-1]
    assert np.linalg.norm(step - du) / np.linalg.norm(du) < 1e-3
    assert np.allclose(np.diff(u, axis=0) / simulation.delta_t, system.rhs(u)[:-1], atol=1e-10)


@pytest.mark.parametrize("filling", [0.2, 0.5, 1.0])
def test_filling_diagonal_and_scale(filling):
    _, system, _, _ = simulated(n=100, frames=50, filling=filling)
    assert not system.W.diagonal().any()
    kept = np.count_nonzero(system.W) / (100 * 99)
    assert abs(kept - filling) <= 3 * np.sqrt(filling * (1 - filling) / 9900)
    assert abs(system.W[system.W != 0].std() * 10 - 1.0) < 0.1


def test_one_purpose_does_not_disturb_another():
    _, full, _, _ = simulated(filling=1.0, frames=50)
    _, half, _, u_half = simulated(filling=0.5, frames=50)
    kept = half.W != 0
    assert np.array_equal(full.W[kept], half.W[kept])
    _, _, _, other = simulated(filling=0.5, frames=50, start_frame=0)
    assert not np.allclose(u_half[0], other[0])
    assert not np.array_equal(simulated(seed=2, frames=50)[1].W, half.W)


def test_the_second_trajectory_can_be_rolled_out_from_its_saved_state():
    simulation, system, rng, u = simulated(frames=600)
    second = trajectory(system, rng["second_state"], simulation, 600)
    saved = second[0].astype(np.float32).astype(float)
    assert np.array_equal(integrate(system, saved, 599, simulation.delta_t), second)
    assert abs(pearson(u[0], second[0])) < 0.6


def test_effective_rank_counts_modes():
    rng = np.random.default_rng(0)
    u = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 20))
    spectrum = np.linalg.eigvalsh(u.T @ u)[::-1]
    assert rank_of(spectrum, 0.999999) == 3
    assert rank_of(np.zeros(4), 0.9) == 0
    _, system, _, frames = simulated(frames=600)
    recording = Recording(50)
    for part in np.array_split(frames, 7):
        recording.add(part, system.rhs(part), len(part))
    described = connectivity(system) | recording.described()
    assert recording.train_std == pytest.approx(frames.std(ddof=1))
    assert described["u_std"] == pytest.approx(frames.std()) and described["n_frames"] == 600
    assert described["du_rms"] == pytest.approx(np.sqrt(np.mean(system.rhs(frames) ** 2)))
    centred = np.linalg.eigvalsh(np.cov(frames.T))[::-1]
    assert described["effective_rank_99_centred"] == rank_of(centred, 0.99)
    assert 1 <= described["effective_rank_90"] <= described["effective_rank_99"] <= 50
    assert described["gain_spectral_radius"] == pytest.approx(7 * described["spectral_radius"], rel=1e-6)
