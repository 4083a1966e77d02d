import pytest
import torch
import yaml

from tests.trainers.conftest import SIMULATION, TRAINING
from trainers import parity
from trainers.errors import RefusedError
from trainers.parity import Outcome, Record, main, read_records, row
from trainers.schema import METRICS
from trainers.settings import read_config

TINY = {
    "name": "tiny", "switch": {"simulation": {"legacy_sparse_transpose": True}},
    "metric": "connectivity_R2", "recorded": 0.5, "source": "a test",
    "simulation": SIMULATION | {"seed": 5}, "training": TRAINING | {"data_augmentation_loop": 2},
    "graph_model": {"hidden_dim": 8, "hidden_dim_update": 8},
}  # fmt: skip


@pytest.fixture(autouse=True)
def signals_and_algorithms_as_before():
    import signal

    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    torch.use_deterministic_algorithms(False)


def test_our_records_are_valid_configs_of_both_kinds():
    records = read_records()
    assert {0.489, 0.869, 0.037} <= {r.recorded for r in records}
    for record in records:
        assert record.metric in METRICS[record.system] and record.source
        both = [read_config(record.system, parity.config_of(record, legacy)) for legacy in (True, False)]
        assert both[0] != both[1], "the switch acts"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- name: x", "switch: Field required"),
        ("name: x", "expected a list of records, found dict"),
        (yaml.safe_dump([TINY | {"value": 1}]), "value: Extra inputs"),
        (yaml.safe_dump([TINY | {"recorded": "0.5"}]), "recorded: Input should be a valid number"),
        (
            yaml.safe_dump([TINY | {"switch": {"simulatio": {"a": 1}}}]),
            "switch: expected keys of graph_model, simulation",
        ),
        (yaml.safe_dump([TINY | {"switch": {}}]), "switch: expected keys of"),
        ("- [", "cannot be read"),
    ],
)
def test_broken_records_are_refused(tmp_path, text, words):
    (tmp_path / "records.yaml").write_text(text)
    with pytest.raises(RefusedError, match=words):
        read_records(tmp_path / "records.yaml")


def test_a_line_shows_both_sides_beside_the_record():
    record = Record.model_validate(TINY)
    line = row(record, Outcome(0.47, 0.4804, 0.4852, 1.0), Outcome(0.9, 0.9971, 1.0, 1.0))
    assert line == "| tiny | connectivity_R2 | 0.500 | 0.470, 0.480 | 0.485 | 0.900, 0.997 | 1.000 |"
    assert "n/a, n/a | n/a" in row(record, Outcome(None, None, None, 1.0), Outcome(0.9, 0.9, 1.0, 1.0))


@pytest.mark.science
@pytest.mark.parametrize("system", ["homeostasis", "stoichiometry"])
def test_metabolic_records_are_trained_and_scored(tmp_path, system):
    """Of our own records, small: what is in their section of records.yaml is kept but for sizes."""
    (record,) = (r for r in read_records() if r.system == system)
    small = {"n_metabolites": 24, "n_reactions": 19, "n_frames": 400}
    training = record.training | {"data_augmentation_loop": 1}
    tiny = record.model_copy(update={"simulation": record.simulation | small, "training": training})
    for legacy in (True, False):
        found = parity.retrain(tiny, legacy, tmp_path / str(legacy))
        assert 0.0 <= found.value <= 1.0 and 0.0 <= found.before <= 1.0 and found.ceiling > 0.5


def test_a_record_is_prepared_trained_and_scored_on_both_sides(tmp_path, capsys):
    (tmp_path / "records.yaml").write_text(yaml.safe_dump([TINY]))
    assert main(["--records", str(tmp_path / "records.yaml"), "--only", "tin"]) == 0
    told = capsys.readouterr().out
    assert len(told.splitlines()[0].split("|")) == len(told.splitlines()[2].split("|"))
    cells = [cell.strip() for cell in told.splitlines()[2].split("|")]
    assert cells[1:4] == ["tiny", "connectivity_R2", "0.500"]
    assert float(cells[5]) < 0.8 and cells[7] == "1.000"  # ceilings: the switch takes a part of W away
    assert all(0.0 <= float(value) <= 1.0 for cell in (cells[4], cells[6]) for value in cell.split(", "))
    assert "2 trainings" in told and "- tiny: simulation.legacy_sparse_transpose: True; a test" in told
    assert main(["--records", str(tmp_path / "records.yaml"), "--only", "none"]) == RefusedError.code
