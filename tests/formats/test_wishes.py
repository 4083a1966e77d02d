import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.exploration import read_exploration
from orchestrator.core.mutation import check_value
from orchestrator.core.schema import read_schema
from orchestrator.errors import RefusedError
from orchestrator.formats import yaml_edit
from orchestrator.formats.compile import compile_all
from orchestrator.formats.instruction import read_instruction
from tests.formats.samples import CONFIG, EXPLORATION, INSTRUCTION, SCHEMA, build, key, line_of

REGIMES = """\
regimes:
  - {name: n100}
  - {name: n200, simulation: {n_neurons: 200}}
  - {name: long200, simulation: {n_neurons: 200, n_frames: 5000}}
"""


def wished(*items, regimes="", front=""):
    """Compile the sample with user instructions."""
    lines = "\n".join(f"- {item}" for item in items)
    text = INSTRUCTION.replace("## Log form", f"## User instructions to follow\n\n{lines}\n\n## Log form")
    return build(instruction=front + text, exploration=EXPLORATION + regimes), front + text


def read(*items, **parts):
    compiled, _ = wished(*items, **parts)
    assert compiled.contract is not None, compiled.stops
    return [(u.regimes, u.undeclared) for u in compiled.contract.user_instructions]


@pytest.mark.parametrize(
    ("item", "regimes", "undeclared"),
    [
        ("Move to regime n_neurons = 200", ("n200", "long200"), ()),
        ("Stay with n_neurons=100.", ("n100",), ()),
        ("compare `n_neurons=100` and `n_neurons=200`", ("n100", "n200", "long200"), ()),
        ("use n_neurons=200 n_frames=5000", ("long200",), ()),
        ("use n_neurons=200 with n_frames=5000", ("long200",), ()),
        ("use n_neurons=100, n_frames=5000", (), ("n_neurons=100 n_frames=5000",)),
        ("simulation.n_neurons: 100, 200", ("n100", "n200", "long200"), ()),
        ("n_neurons from 150 to 300", ("n200", "long200"), ()),
        ("try n_neurons=400", (), ("n_neurons=400",)),
        ("try n_neurons=1", (), ("n_neurons=1",)),
        ("compare n_neurons=100 and n_neurons=200 low_rank=20 regimes", ("n100",), ("low_rank=20",)),
        ("keep n_neurons = 100", ("n100",), ()),
        ("n_neurons = 200: keep what is known of 200 neurons apart", ("n200", "long200"), ()),
        ("never go to n_neurons = 400", (), ()),
        ("aim for connectivity_R2 = 0.99", (), ()),
        ("Be careful with the 3 noisy runs", (), ()),
    ],
)
def test_what_an_item_asks_for(item, regimes, undeclared):
    assert read(item, regimes=REGIMES) == [(regimes, undeclared)]


def test_bare_numbers_mean_the_key_that_another_item_names():
    found = read(
        "compare n_neurons=100 and n_neurons=200", "Partition the understanding for 100 and 200", regimes=REGIMES
    )
    assert found[1] == (("n100", "n200", "long200"), ())
    alone = read("Partition the understanding for 100 and 200", regimes=REGIMES)
    assert alone == [((), ())]


def test_what_nothing_declares_is_told_with_its_line():
    compiled, text = wished("compare n_neurons=100 and n_neurons=400", "and then low_rank=20")
    told = {p.where: p.text for p in compiled.problems if "user instructions" in p.text}
    at = f"small.md:{line_of(text, 'n_neurons=400')}"
    assert "ask for n_neurons=400, and no regime declares it" in told[at]
    assert f"line {line_of(text, 'DO NOT change')} freezes" in told[at] and "under `regimes:`" in told[at]
    assert "there is no key low_rank" in told[f"small.md:{line_of(text, 'low_rank')}"]
    assert not compiled.stops


@pytest.mark.parametrize(
    ("item", "regimes", "undeclared", "freed"),
    [
        ("n_neurons=200 rank=20", ("n200",), (), True),
        ("n_neurons=200 low_rank=20", (), ("low_rank=20",), False),
        ("low_rank=20", (), (), True),
    ],
)
def test_a_spelling_beside_a_system_is_of_the_system(item, regimes, undeclared, freed):
    """`low_rank` is an alias of a model key, and a value of a key of `simulation`."""
    data = copy.deepcopy(SCHEMA)
    sections = data["systems"]["signal"]["sections"]
    sections["simulation"]["connectivity_type"] = key("str", "chaotic", allowed=["chaotic", "low_rank"])
    sections["graph_model"]["W_rank"] = key("int", 0, 0, 100, aliases=["low_rank", "rank"])
    text = INSTRUCTION + f"\n## User instructions\n\n- {item}\n"
    spec = "regimes: [{name: n100}, {name: n200, simulation: {n_neurons: 200}}]\n"
    compiled = compile_all(
        "small", read_instruction(text, "small.md"), read_schema(data, "signal"),
        read_exploration(yaml_edit.load(EXPLORATION + spec, "e")), yaml_edit.read(CONFIG, "config.yaml"), "cpu",
    )  # fmt: skip
    (found,) = compiled.contract.user_instructions
    assert (found.regimes, found.undeclared) == (regimes, undeclared)
    assert (compiled.contract.key("graph_model.W_rank").level == "free") == freed
    assert any("(graph_model.W_rank is)" in p.text for p in compiled.problems) == (undeclared != ())


def test_front_matter_maps_a_spelling():
    front = "---\nnames: {low_rank: simulation.n_frames}\n---\n"
    assert read("n_neurons=200 low_rank=5000", regimes=REGIMES, front=front) == [(("long200",), ())]


@pytest.mark.parametrize(
    ("item", "key", "low", "high", "allowed"),
    [
        ("set hidden_dim = 32", "graph_model.hidden_dim", 1, 4096, (64, 32)),
        ("set hidden_dim = 32, 128 or 256", "graph_model.hidden_dim", 1, 4096, (64, 32, 128, 256)),
        ("hidden_dim between 32 and 128", "graph_model.hidden_dim", 32, 128, ()),
        ("reduce hidden_dim from 64 to 32", "graph_model.hidden_dim", 32, 64, ()),
        ("hidden_dim in [128, 256]", "graph_model.hidden_dim", 64, 256, ()),
        ("coeff_W_L1: 1E-6 to 1E-2", "training.coeff_W_L1", 0.0, 1e-2, ()),
        ("coeff_W_L1: 1E-6–1E-2", "training.coeff_W_L1", 0.0, 1e-2, ()),
        ("try lr_W=5E-2", "training.learning_rate_W_start", 1e-4, 5e-2, ()),
        ("batch_size = 64", "training.batch_size", 1, 1024, (8, 16, 32, 64)),
        ("batch_size: 16 to 64", "training.batch_size", 8, 64, ()),
        ("loss = mse", "training.loss", None, None, ("norm", "mse")),
    ],
)
def test_a_key_that_is_asked_for_is_free(item, key, low, high, allowed):
    compiled, text = wished(item)
    rule = compiled.contract.key(key)
    assert (rule.level, rule.low, rule.high, rule.allowed) == ("free", low, high, allowed)
    assert rule.source == f"small.md:{line_of(text, item)}"
    assert key in compiled.contract.order
    check_value(rule, rule.start)


def test_a_freed_key_takes_only_its_start_and_what_was_asked_for():
    compiled, _ = wished("set hidden_dim = 32")
    rule = compiled.contract.key("hidden_dim")
    check_value(rule, 32)
    with pytest.raises(RefusedError):
        check_value(rule, 48)
    assert any("free graph_model.hidden_dim for hidden_dim=32; it was frozen" in p.text for p in compiled.problems)


def test_what_is_free_already_keeps_its_rule():
    compiled, _ = wished("start with lr_W=5E-3")
    assert compiled.contract.key("lr_W") == build().contract.key("lr_W").model_copy(
        update={"source": compiled.contract.key("lr_W").source}
    )
    assert compiled.contract.key("lr_W").source != compiled.contract.user_instructions[0].source


def test_user_instructions_win_over_exploration_yaml():
    compiled, _ = wished("batch_size = 64", regimes="settle: {batch_size: {level: frozen}}\n")
    assert compiled.contract.key("batch_size").allowed == (8, 64)


@pytest.mark.parametrize("item", ["lr_W = 5", "batch_size = 8.5", "loss = huber", "hidden_dim: 1 to 100000"])
def test_outside_the_hard_schema_stops_with_its_line(item):
    compiled, text = wished(item)
    assert [p.where for p in compiled.stops] == [f"small.md:{line_of(text, item)}"]


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("do not set hidden_dim = 32", "no key changes"),
        ("keep batch_size = 8", "no key changes"),
        ("seed = 5", "a seed belongs to a run"),
        ("n_iter_block = 24", "under `claude:`"),
        ("data_augmentation_loop = 50", "under `claude:`"),
    ],
)
def test_what_is_not_honoured_is_told(item, said):
    compiled, _ = wished(item)
    assert [said in p.text for p in compiled.problems] == [True]
    assert compiled.contract.keys == tuple(
        k.model_copy(update={"source": found.source})
        for k, found in zip(build().contract.keys, compiled.contract.keys, strict=True)
    )


def test_none_yet_is_nothing():
    text = INSTRUCTION.replace("## Log form", "## User instructions\n\nNone yet. Write wishes\nhere.\n\n## Log form")
    assert build(instruction=text).contract.user_instructions == ()
    listed = text.replace("here.", "here.\n\n- think")
    assert [u.text for u in build(instruction=listed).contract.user_instructions] == ["think"]
    text = text.replace("None yet.", "First of all:")
    assert [u.text for u in build(instruction=text).contract.user_instructions] == ["First of all: Write wishes here."]


words = st.sampled_from(
    ["n_neurons", "hidden_dim", "lr_W", "loss", "seed", "=", ":", " ", "to", "and", ", ", "[", "]", "–", "1e999", "nan",
     "-", ".", "5", "200", "08", "1E-3", "mse", "true", "between", "from", "`", "|"]
)  # fmt: skip


@settings(max_examples=80)
@given(st.lists(words | st.text(max_size=3), max_size=14))
def test_any_item_is_honoured_or_told(parts):
    compiled, _ = wished("x " + "".join(parts).replace("\n", " "), regimes=REGIMES)
    for rule in compiled.contract.keys if compiled.contract else ():
        check_value(rule, rule.start)
