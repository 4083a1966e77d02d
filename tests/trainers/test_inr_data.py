"""prepare and score of system `inr`: what is simulated, what is withheld, what it is compared with."""

import itertools
import json
import shutil

import numpy as np
import pytest
from scipy.stats import linregress

from tests.trainers.moving import config, write_order, write_spec
from trainers.__main__ import main
from trainers.prepare.build import prepare
from trainers.prepare.cells import Cells, Signal, minimum_image, pair_velocity, walk
from trainers.prepare.field_limits import paths, unexplained
from trainers.prepare.inr import guard
from trainers.prepare.withheld import persistence, windows, withhold
from trainers.scoring.fields import load_truth, r2, score_estimate, score_seen

CELLS = Cells(60, 2, 2.0, 0.5, 0.6, 2.0, 10.0, 0.02, 20.0, 0.1)


@pytest.fixture(scope="module")
def regime(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inr")
    prepare(write_spec(folder / "SPEC.yaml"), folder / "data")
    return folder / "data"


# the simulation


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_signal_has_the_stated_size_and_correlations(dimension):
    cells = CELLS._replace(dimension=dimension)
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 2, (40, dimension))
    apart = np.zeros(dimension)
    apart[0] = 0.3
    found = {"rms": [], "near": [], "later": []}
    for seed in range(300):
        signal = Signal(cells, np.random.default_rng(seed))
        here, near = signal.at(x), signal.at(x + apart)
        for _ in range(100):
            signal.step(0.01)
        found["rms"].append(np.mean(np.sum(here**2, axis=1)))
        found["near"].append(np.mean(np.sum(here * near, axis=1)))
        found["later"].append(np.mean(np.sum(here * signal.at(x), axis=1)))
    mean = {k: np.mean(v) for k, v in found.items()}
    assert mean["rms"] == pytest.approx(1.0, abs=0.07)
    assert mean["later"] / mean["rms"] == pytest.approx((1 + 0.5) * np.exp(-0.5), abs=0.04)
    # a solenoidal field falls faster across than along; averaged over both, near the stated exp(-r^2 / 2 l^2)
    assert 0.7 < mean["near"] / mean["rms"] < np.exp(-(0.3**2) / 2 / 0.6**2) + 0.03


def test_the_signal_has_no_sources_and_is_periodic():
    signal = Signal(CELLS, np.random.default_rng(1))
    x = np.random.default_rng(2).uniform(0, 2, (50, 2))
    step = 1e-5
    slopes = [
        (signal.at(x + step * e)[:, i] - signal.at(x - step * e)[:, i]) / 2 / step for i, e in enumerate(np.eye(2))
    ]
    assert np.abs(np.sum(slopes, axis=0)).max() < 1e-6 < np.abs(slopes[0]).max()
    assert np.allclose(signal.at(x + np.array([2.0, -2.0])), signal.at(x))


def test_pair_forces_are_those_of_the_formula_across_the_boundary():
    x = np.array([[[0.01, 1.0], [1.97, 1.0], [1.0, 0.5], [1.0, 0.58]]])
    found = pair_velocity(x, CELLS)
    assert found[0, 0] == pytest.approx([20.0 * (0.1 - 0.04), 0.0]) and found[0, 1] == pytest.approx(-found[0, 0])
    assert found[0, 3] == pytest.approx([0.0, 20.0 * 0.02], abs=1e-9)
    assert pair_velocity(np.array([[[0.0, 0.0], [0.5, 0.5]]]), CELLS) == pytest.approx(0.0)


def test_populations_share_the_signal_and_nothing_else_and_stay_as_fast():
    frames = np.stack(list(itertools.islice(walk(CELLS, 3, 2, 0.05, 2), 401)), axis=1)
    assert ((frames >= 0) & (frames < 2)).all()
    v = minimum_image(np.diff(frames, axis=1), 2.0) / 0.05
    rms = [np.sqrt(np.mean(v[0, part] ** 2)) for part in (slice(100, 200), slice(300, 400))]
    assert rms[1] == pytest.approx(rms[0], rel=0.1)
    alone = np.stack(list(itertools.islice(walk(CELLS, 3, 1, 0.05, 2), 401)), axis=1)
    assert np.array_equal(alone[0], frames[0]) and not np.allclose(frames[0], frames[1])


def test_without_a_signal_and_noise_cells_go_straight():
    free = CELLS._replace(alignment=0.0, rotational_diffusion=0.0, pair_stiffness=0.0)
    frames = np.stack(list(itertools.islice(walk(free, 1, 1, 0.05, 1), 11)), axis=1)[0]
    v = minimum_image(np.diff(frames, axis=0), 2.0) / 0.05
    assert np.allclose(v, v[0]) and np.allclose(np.linalg.norm(v, axis=2), 0.5)


# what is withheld


def test_a_memory_of_exponential_decay_is_found():
    rng, field = np.random.default_rng(0), np.zeros((4000, 60, 1))
    for t in range(1, 4000):
        field[t] = 0.98 * field[t - 1] + rng.standard_normal((60, 1))
    assert persistence(field) == pytest.approx(50, rel=0.2)
    assert persistence(np.broadcast_to(rng.standard_normal((1, 60, 1)), (400, 60, 1))) is None


@pytest.mark.parametrize(
    ("frames", "remembered", "number", "length"), [(1000, 50, 2, 53), (1000, 100, 1, 105), (1000, 400, 1, 200),
                                                   (1000, None, 1, 200)],
)  # fmt: skip
def test_windows_are_longer_than_the_memory_where_they_can_be(frames, remembered, number, length):
    found = windows(frames, remembered)
    assert [len(w) for w in found] == [length] * number
    assert all(w.start > 100 and w.stop < 900 for w in found)


def test_what_is_withheld_is_whole_cells_windows_and_single_values():
    field = np.random.default_rng(0).standard_normal((400, 50, 2)).cumsum(axis=0)
    held = withhold(field, 7)
    inside = np.concatenate([np.asarray(w) for w in held.windows])
    assert len(held.cells) == 10 and not held.kept[:, held.cells].any() and not held.kept[inside].any()
    rest = np.delete(np.delete(held.kept, inside, axis=0), held.cells, axis=1)
    assert rest.mean() == pytest.approx(0.95, abs=0.01)
    for kind, (frames, cells) in held.asked.items():
        assert not held.kept[frames, cells].any() and len(set(zip(frames, cells, strict=True))) == len(frames)
        assert np.isin(cells, held.cells).all() == (kind == "cells")
        assert np.isin(frames, inside).all() == (kind == "windows")
    asked = np.unique(held.asked["cells"][0])  # nobody can follow a withheld cell through what is asked
    assert np.diff(asked).min() >= (persistence(field) or 100)
    assert all(np.sum(held.asked["cells"][0] == frame) == len(held.cells) for frame in asked)
    for stretch in held.windows:
        mine = held.asked["windows"][0][np.isin(held.asked["windows"][0], stretch)]
        assert len(mine) == 40 and np.ptp(mine) < len(stretch) / 5
        assert abs(mine.mean() - (stretch.start + stretch.stop) / 2) < len(stretch) / 8


def test_training_is_given_no_position_of_a_withheld_cell_and_no_truth(regime):
    assert {p.name for p in (regime / "train").iterdir()} == {
        "frames.npy", "positions.npy", "field.npy", "kept.npy", "dataset.json"}  # fmt: skip
    assert json.loads((regime / "train" / "dataset.json").read_text())["n_cells"] == 32
    positions = np.load(regime / "train" / "positions.npy")
    asked = np.load(regime / "inputs" / "points_cells.npy")[:, 1:]
    assert not np.isin(asked, positions).any()
    told = np.concatenate([np.load(p).ravel() for p in (regime / "train").glob("*.npy")]).astype(np.float32)
    for kind in ("cells", "windows", "frames"):
        assert not np.isin(np.load(regime / "truth" / f"field_{kind}.npy"), told).any()


def test_the_same_order_gives_the_same_bytes_and_another_seed_another_recording(tmp_path, regime):
    for name, seed in (("same", 5), ("other", 6)):
        prepare(write_spec(tmp_path / f"{name}.yaml", simulation__seed=seed), tmp_path / name)
    prints = [json.loads((f / "preflight.json").read_text())["fingerprint"]
              for f in (regime, tmp_path / "same", tmp_path / "other")]  # fmt: skip
    assert prints[0] == prints[1] != prints[2]


# what it is compared with


@pytest.mark.parametrize("twins", [True, False])
def test_the_ceiling_is_the_part_that_the_place_decides(twins):
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 2, (2, 60, 400, 2))
    smooth = np.stack([np.sin(np.pi * x[..., 0]), np.cos(np.pi * x[..., 1])], axis=-1)
    field = smooth + 0.3 * rng.standard_normal(smooth.shape)
    left = unexplained(x[0], field[0], np.array([2.0, 2.0]), [(x[1], field[1])] if twins else [])
    assert left == pytest.approx(2 * 0.09, rel=0.1)


def test_cells_that_keep_apart_have_no_ceiling_of_their_own():
    """Carried on from a distance it would be too high: pairs at 0 are what is missing."""
    grid = np.stack(np.meshgrid(*[np.arange(12) / 6] * 2), axis=-1).reshape(-1, 2)
    rng = np.random.default_rng(0)
    x = np.mod(grid + 0.02 * rng.standard_normal((200, *grid.shape)), 2.0)
    field = np.sin(np.pi * x) + 0.1 * rng.standard_normal(x.shape)
    assert unexplained(x, field, np.array([2.0, 2.0]), []) is None


def test_a_dense_blob_with_an_outlier_is_looked_at_in_seconds():
    x = np.random.default_rng(0).standard_normal((60, 3000, 2))
    x[:, 0] = 100.0
    assert unexplained(x, x.astype(np.float32), None, []) == pytest.approx(0.0, abs=1e-3)


def test_the_path_of_a_cell_is_a_polynomial_through_what_is_known_of_it():
    t = np.arange(200) * 0.01
    places = np.stack([0.3 * t**4 - t**2, 1.9 + t**3], axis=1)[:, None] * np.ones((1, 12, 1))
    speeds = np.stack([1.2 * t**3 - 2 * t, 3 * t**2], axis=1)[:, None] * np.ones((1, 12, 1))
    held = withhold(speeds + 1e-3 * np.random.default_rng(0).standard_normal(speeds.shape), 1)
    found = paths(np.mod(places, 2.0), speeds, np.array([2.0, 2.0]), held, 0.01)
    assert np.allclose(found, speeds[held.asked["windows"]], atol=1e-6)


def test_no_pairs_no_ceiling():
    x = np.arange(5.0)[None, :, None] * np.ones((3, 1, 2))
    assert unexplained(x, np.ones((3, 5, 1)), None, []) is None


def test_the_preflight_passes_and_has_every_baseline(regime):
    found = json.loads((regime / "preflight.json").read_text())
    assert found["ok"], found["reason"]
    for name in ("heldout_cells_r2", "heldout_windows_r2", "heldout_frames_r2", "final_r2", "slope"):
        assert found["oracle"][name] == pytest.approx(1.0, abs=1e-9)
    assert found["null"]["heldout_cells_r2"] < 0.1
    assert 0.5 < found["ceiling"]["heldout_cells_r2"] <= 1
    known = load_truth(regime).limits["baselines"]
    assert known["cells"]["mean"] < 0.05 and min(known["cells"]["neighbour"], known["cells"]["interpolation"]) > 0.5
    assert known["frames"]["interpolation"] > 0.98
    assert found["baselines"]["heldout_cells_r2"] == max(known["cells"].values())
    assert found["guard"]["relative_error"] < 1e-3


@pytest.mark.parametrize("planted", ["train/field.npy", "train/positions.npy"])
def test_the_guard_catches_velocities_that_are_not_those_of_the_positions(planted, tmp_path, regime):
    folder = tmp_path / "data"
    shutil.copytree(regime, folder)
    s = config().simulation
    assert guard(folder, s, load_truth(folder))["ok"]
    array = np.load(folder / planted)
    np.save(folder / planted, array[::-1].copy())
    assert "differ from the differences" in guard(folder, s, load_truth(folder))["sentence"]


def test_the_guard_catches_a_simulation_that_slows_down(tmp_path, regime):
    folder = tmp_path / "data"
    shutil.copytree(regime, folder)
    frames, x = (np.load(folder / "train" / f"{n}.npy") for n in ("frames", "positions"))
    # motion that dies out: positions and velocities belong together, only the speed is not stationary
    pace = np.linspace(1.0, 0.2, len(frames), dtype=np.float32)
    start = x[0].astype(np.float64)
    step = np.full(x.shape[1:], 1e-3) * pace[:, None, None]
    x = np.mod(start + np.cumsum(step, axis=0) - step, 1.0)
    np.save(folder / "train" / "positions.npy", x.astype(np.float32))
    np.save(folder / "train" / "field.npy", (step * 2.0 / 0.05).astype(np.float32))
    told = guard(folder, config().simulation, load_truth(folder))
    assert not told["ok"] and "not stationary" in told["sentence"]


def test_scores_are_those_of_other_people_s_code(regime):
    truth, rng = load_truth(regime), np.random.default_rng(0)
    seen = 0.8 * truth.seen + 0.05 * rng.standard_normal(truth.seen.shape) + 0.1
    found = score_seen(seen, truth)
    line = linregress(truth.seen[truth.seen_kept].ravel(), seen[truth.seen_kept].ravel())
    assert found["final_r2"] == pytest.approx(line.rvalue**2) and found["slope"] == pytest.approx(line.slope)
    assert found["final_mse"] == pytest.approx(np.mean((seen - truth.seen)[truth.seen_kept] ** 2))
    seen[~truth.seen_kept] = 1e9  # withheld values play no part
    assert score_seen(seen, truth) == found
    values = truth.held["cells"]
    assert r2(np.broadcast_to(values.mean(axis=0), values.shape), values) == pytest.approx(0.0)
    assert r2(values, values) == 1.0 and r2(values, np.ones_like(values)) is None
    half = score_estimate({k: 0.5 * v for k, v in truth.held.items()}, truth)
    assert half["ceiling_share"] == pytest.approx(half["heldout_cells_r2"] / truth.limits["ceiling"])


def test_a_run_is_scored_in_the_lines_and_figures_of_the_instruction(tmp_path, regime):
    run = write_order(tmp_path / "run", regime, inr_total_steps=20)
    assert main(["train", str(run)]) == 0
    assert main(["score", str(run), "--data", str(regime)]) == 0
    log = (run / "analysis.log").read_text().splitlines()
    keys = [line.strip().partition(":")[0] for line in log]
    for name in ("final_r2", "final_mse", "slope", "training_time_min", "heldout_cells_r2", "heldout_windows_r2",
                 "heldout_frames_r2", "ceiling_share", "n_cells", "n_frames", "n_components", "omega_inr",
                 "baseline neighbour heldout_cells_r2", "baseline interpolation heldout_windows_r2"):  # fmt: skip
        assert keys.count(name) == 1, name
    recorded = (run / "results.log").read_text().splitlines()
    assert [line.partition(":")[0] for line in recorded][:6] == [
        "field_name", "inr_type", "gradient_mode", "final_mse", "final_r2", "slope"]  # fmt: skip
    assert "total_steps: 20" in recorded and "n_cells: 32" in recorded
    result = json.loads((run / "result.json").read_text())
    assert result["metrics"]["steps_done"]["value"] == 20
    assert result["metrics"]["n_parameters"]["value"] == 3 * 16 + 16 + 16 * 17 + 16 * 2 + 2
    assert {"plots/field/slices.png", "plots/field/error_over_time.png", "plots/loss.png"} <= set(result["plots"])
    for folder in ("plots/field/comparison_", "plots/omega/spectrum_"):
        assert sum(p.startswith(folder) for p in result["plots"]) == 4
