"""Hostile values: wrong types, unknown keys, out of range, frozen, two changes, none, no numbers."""

from orchestrator.llm.scripted import uses
from tests.scientist import stage
from tests.scientist.hostile_base import CHOSEN, EMPTY, LISTS_KEYS, case, learns, nested, planned, sets, submits

# Wrong types
case(
    "wrong-types",
    "text-for-slot",
    uses(("choose_parent", {"slot": "0", "parent": 1, "second_parent": None})),
    "choose_parent",
    "slot: Input should be a valid integer",
    "valid integer",
)
case(
    "wrong-types",
    "text-for-float",
    sets("learning_rate_W_start", "1e-3"),
    "learning_rate_W_start = '1e-3' refused",
    "of type float",
    r"1E-4 to 0\.01|1E-4 to 1E-2",
)
case(
    "wrong-types",
    "bool-for-int",
    sets("batch_size", True),
    "batch_size = True refused",
    "of type int",
    "one of 8, 16, 32",
)
case(
    "wrong-types",
    "bool-for-float",
    sets("learning_rate_W_start", True),
    "learning_rate_W_start = True refused",
    "of type float",
    "1E-4 to",
)
case(
    "wrong-types",
    "bool-for-slot",
    uses(("replicate", {"slot": False, "node": 1, "seed": "training"})),
    "replicate",
    "slot: Input should be a valid integer",
    "valid integer",
)
case(
    "wrong-types",
    "bool-for-parent",
    uses(("choose_parent", {"slot": 0, "parent": True, "second_parent": None})),
    "choose_parent",
    "parent: Input should be",
    "valid integer|'root'",
)
case(
    "wrong-types",
    "float-for-slot",
    uses(("choose_parent", {"slot": 0.0, "parent": 1, "second_parent": None})),
    "choose_parent",
    "slot: Input should be",
    "valid integer",
)
case("wrong-types", "half-for-int", sets("batch_size", 8.5), "batch_size = 8.5 refused", "int", "8, 16, 32")
case(
    "wrong-types",
    "null-for-value",
    sets("learning_rate_W_start", None),
    "set_hyperparameter",
    "value: Input should be",
    "valid",
)
case(
    "wrong-types",
    "list-for-value",
    sets("learning_rate_W_start", [1e-3]),
    "set_hyperparameter",
    "value: Input should be",
    "valid",
)
case(
    "wrong-types",
    "object-for-text",
    submits(observations=lambda o: [o[0] | {"observation": {"text": "fine"}}]),
    "submit",
    r"observations\.0\.observation: Input should be",
    "valid string",
)
case(
    "wrong-types",
    "text-for-list",
    uses(("write_memory_section", {"section": "Hypothesis", "lines": "one"})),
    "write_memory_section",
    "lines: Input should be",
    "valid list",
)
for index, given in enumerate([[], None, 7, "submit", True, 1.5]):
    case(
        "wrong-types",
        f"input-{index}",
        uses(("submit", given)),
        "submit refused",
        "its input must be an object",
        "observations, proposals, acknowledged",
    )
case("wrong-types", "nested-2000", sets("learning_rate_W_start", nested(2000)), "set_hyperparameter", "value", "valid")
case(
    "wrong-types",
    "nested-100000",
    uses(("choose_parent", {"slot": nested(100_000), "parent": 1})),
    "choose_parent",
    "slot: Input should be",
    "valid integer",
)
case("wrong-types", "nested-input", uses(("submit", nested(3000))), "submit", "must be an object", "observations")
case("wrong-types", "no-fields", uses(("submit", {})), "submit", "observations is missing", "it takes observations")
case(
    "wrong-types",
    "inner-field-missing",
    submits(observations=lambda o: [{"iteration": o[0]["iteration"]}]),
    "submit",
    r"observations\.0\.observation is missing",
    "it takes iteration, observation, visual",
)

# Unknown keys
near = r"nearest free keys: .*learning_rate"
case("unknown-keys", "none-of-that-name", sets("momentum", 0.9), "key 'momentum' refused", "none of that name", near)
case("unknown-keys", "cyrillic", sets("le\u0430rning_rate_W_start", 1e-3), "refused", "none of that name", near)
case("unknown-keys", "fullwidth", sets("\uff4c\uff52_W", 1e-3), "refused", "none of that name", near)
case("unknown-keys", "combining", sets("learning_rate\u0307_W", 1e-3), "refused", "none of that name", near)
case("unknown-keys", "zero-width", sets("learning_rate\u200b_W", 1e-3), "refused", "none of that name", near)
case("unknown-keys", "empty", sets("", 1e-3), "key '' refused", "none of that name", near)
case("unknown-keys", "other-section", sets("graph_model.learning_rate_W_start", 1e-3), "refused", "none", near)
case("unknown-keys", "dunder", sets("__class__", 1), "key '__class__' refused", "none of that name", near)
case(
    "unknown-keys",
    "ten-megabytes",
    sets("learning_" * 1_200_000, 1),
    "key 'learning_",
    "none of that name",
    "nearest free",
)
case(
    "unknown-keys", "surrogate", sets("learning_rate_W\ud800", 1e-3), "key .learning_rate_W", "none of that name", near
)
case(
    "unknown-keys",
    "field",
    uses(("choose_parent", {**CHOSEN[1], "force": True})),
    "force is unknown",
    "it takes slot, parent, second_parent",
    "slot, parent",
)
case(
    "unknown-keys",
    "field-surrogate",
    uses(("choose_parent", {**CHOSEN[1], "x\ud800\n## Iter 9": True})),
    "is unknown",
    "it takes slot, parent, second_parent",
    "slot, parent",
    marks=("## Iter 9",),
)
case(
    "unknown-keys",
    "inner-field",
    submits(proposals=lambda p: [p[0] | {"parent": 1}]),
    r"proposals\.0\.parent is unknown",
    "it takes slot, strategy, parent_rule, hypothesis",
    "slot",
)
case(
    "unknown-keys",
    "strategy-with-a-cell",
    planned(strategy="exploit | 9"),
    "strategy 'exploit",
    "no `|` in it",
    "exploit",
)
case("unknown-keys", "strategy", planned(strategy="win"), "strategy 'win' refused", "table has no such row", "exploit")

# Out of range
case(
    "out-of-range",
    "above",
    sets("learning_rate_W_start", 0.5),
    "learning_rate_W_start = 0.5 refused",
    "range",
    "nearest: ",
)
case(
    "out-of-range",
    "below",
    sets("learning_rate_W_start", 0.0),
    "learning_rate_W_start = 0 refused",
    "range",
    "nearest: ",
)
case(
    "out-of-range",
    "negative",
    sets("learning_rate_start", -1e-4),
    "learning_rate_start = -1E-4 refused",
    "range",
    "nearest: ",
)
case("out-of-range", "not-allowed", sets("batch_size", 12), "batch_size = 12 refused", "allowed", "8, 16, 32")
case(
    "out-of-range",
    "int-400-digits",
    sets("learning_rate_W_start", 10**400),
    "learning_rate_W_start",
    "out of range",
    "1E-4 to",
)
case("out-of-range", "int-400-digits-batch", sets("batch_size", -(10**400)), "batch_size", "out of range", "8, 16, 32")
case(
    "out-of-range",
    "int-9000-digits",
    sets("learning_rate_W_start", 10**9000),
    "learning_rate_W_start",
    "refused",
    "1E-4 to",
)
case(
    "out-of-range",
    "slot-minus-one",
    uses(("choose_parent", {**CHOSEN[1], "slot": -1})),
    "slot -1 refused",
    "slots to fill are",
    "are 0",
)
case(
    "out-of-range",
    "slot-10-18",
    uses(("replicate", {"slot": 10**18, "node": 1, "seed": "training"})),
    "slot 1000000000000000000 refused",
    "slots to fill are",
    "are 0",
)
case(
    "out-of-range",
    "slot-9000-digits",
    uses(("replicate", {"slot": 10**9000, "node": 1, "seed": "training"})),
    "slot",
    "refused",
    "integer|slots to fill",
)
case(
    "out-of-range",
    "no-such-parent",
    uses(("choose_parent", {**CHOSEN[1], "parent": 99})),
    "parent=99 refused",
    "no such node",
    r"finished nodes of this block: 1, 2, 3",
)
case(
    "out-of-range",
    "parent-zero",
    uses(("choose_parent", {**CHOSEN[1], "parent": 0})),
    "parent=0 refused",
    "no such node",
    "finished nodes of this block: 1",
)
case(
    "out-of-range",
    "parent-of-another-block",
    uses(CHOSEN),
    "parent=1 refused",
    "it is of block 1",
    "finished nodes of this block: 3",
    stage="regimes",
)
case(
    "out-of-range",
    "parent-unfinished",
    uses(("choose_parent", {"slot": 0, "parent": 5, "second_parent": None})),
    "parent=5 refused",
    "no run of it has ended",
    "finished nodes of this block: 1",
    stage="flight",
)
case(
    "out-of-range",
    "replicate-unfinished",
    uses(("replicate", {"slot": 0, "node": 5, "seed": "training"})),
    "node=5 refused",
    "no run of it has ended",
    "finished nodes of this block: 1",
    stage="flight",
)
case(
    "out-of-range",
    "taken-slot",
    uses(("replicate", {"slot": 1, "node": 1, "seed": "training"})),
    "slot 1 refused",
    "slots to fill are",
    "0",
    stage="flight",
)
case(
    "out-of-range",
    "second-parent-equal",
    uses(("choose_parent", {"slot": 0, "parent": 1, "second_parent": 1})),
    "second_parent=1 refused",
    "it is the parent",
    "nodes: 1, 2, 3",
)
case(
    "out-of-range",
    "second-parent-of-root",
    uses(("choose_parent", {"slot": 0, "parent": "root", "second_parent": 1})),
    "second_parent refused",
    "needs a parent node",
    "not root",
)
case(
    "out-of-range",
    "second-parent-unknown",
    uses(("choose_parent", {**CHOSEN[1], "second_parent": -3})),
    "parent=-3 refused",
    "no such node",
    "1, 2, 3",
)
case(
    "out-of-range",
    "no-parent-yet",
    uses(("set_hyperparameter", {"slot": 0, "key": "learning_rate_W_start", "value": 1e-3})),
    "slot 0 has no parent",
    "choose_parent first",
    "nodes: 1, 2, 3",
)
case(
    "out-of-range",
    "unknown-regime",
    uses(("end_block", stage.END | {"regime": "large"})),
    "regime 'large' refused",
    "declares none",
    'use ""',
    stage="end",
)

# Frozen keys
for index, (key, value) in enumerate(
    [("simulation.n_neurons", 20), ("hidden_dim", 64), ("claude.n_epochs", 10), ("n_iter_block", 99), ("n_frames", 1)]
):
    case("frozen-key", str(index), sets(key, value), key.split(".")[-1], "refused|none", LISTS_KEYS)
case("frozen-key", "training-seed", sets("training.seed", 8), "training.seed refused", "seed", "replicate|free keys")
case("frozen-key", "simulation-seed", sets("simulation.seed", 8), "simulation.seed refused", "", "replicate|free keys")
case("frozen-key", "huge-value", sets("simulation.n_neurons", "x" * 10_000_000), "n_neurons refused", "", "free keys")

# Two changes, and none
case(
    "two-changes",
    "two-calls",
    uses(
        CHOSEN,
        ("set_hyperparameter", {"slot": 0, "key": "learning_rate_W_start", "value": 1e-3}),
        ("set_hyperparameter", {"slot": 0, "key": "batch_size", "value": 16}),
    ),
    "batch_size refused",
    "at most 1 key",
    "set that back",
)
case(
    "two-changes",
    "three-calls",
    uses(
        CHOSEN,
        *(
            ("set_hyperparameter", {"slot": 0, "key": k, "value": v})
            for k, v in (("learning_rate_start", 2e-4), ("learning_rate_W_start", 1e-3), ("batch_size", 16))
        ),
    ),
    "learning_rate_W_start refused",
    "at most 1 key",
    "set that back",
)
case(
    "two-changes",
    "recombined-with-a-value-of-its-own",
    uses(
        ("choose_parent", {"slot": 0, "parent": 1, "second_parent": 2}),
        ("set_hyperparameter", {"slot": 0, "key": "batch_size", "value": 32}),
        (
            "submit",
            {
                "observations": [{"iteration": 3, "observation": "fine", "visual": []}],
                "acknowledged": [],
                "proposals": [{"slot": 0, "strategy": "exploit", "parent_rule": "a", "hypothesis": "b"}],
            },
        ),
    ),
    "batch_size = 32 refused",
    "the second parent, has",
    "values of its second parent only",
)
case(
    "no-op",
    "same-value",
    sets("learning_rate_W_start", 3e-3),
    "learning_rate_W_start = 3E-3 refused",
    "its value already",
    "1E-4 to",
)
case(
    "no-op",
    "same-value-as-int-float",
    sets("batch_size", 8.0),
    "batch_size = 8 refused",
    "its value already",
    "8, 16, 32",
)
JUDGED = [{"iteration": 3, "observation": "as the figures say", "visual": []}]
case(
    "no-op",
    "nothing-set",
    uses(CHOSEN, ("submit", {"observations": JUDGED, "proposals": [EMPTY], "acknowledged": []})),
    "slot 0 refused",
    "nothing changes",
    "set one key, or call replicate",
)
case(
    "no-op",
    "nothing-chosen",
    uses(("submit", {"observations": JUDGED, "proposals": [EMPTY], "acknowledged": []})),
    "slot 0 refused",
    "nothing was chosen",
    "choose_parent or replicate",
)
case(
    "no-op",
    "row-reads-so",
    uses(("edit_strategy_row", stage.ROW | {"condition": "5+ consecutive successes"})),
    "change of explore refused",
    "reads so already",
    "change its condition",
    stage="end",
)

# No numbers
for name, value in (("nan", float("nan")), ("inf", float("inf")), ("minus-inf", float("-inf"))):
    case("nan", name, sets("learning_rate_W_start", value), "learning_rate_W_start", "no number|type float", "1E-4 to")
    case("nan", f"{name}-of-an-int", sets("batch_size", value), "batch_size", "no number|type int", "8, 16, 32")
case(
    "nan",
    "slot",
    uses(("choose_parent", {**CHOSEN[1], "slot": float("nan")})),
    "choose_parent",
    "slot: Input",
    "integer",
)
case("nan", "unknown-tool", uses(("launch", {"x": [float("nan"), {"y": float("inf")}]})), "launch", "none of", "submit")
case("nan", "cited", learns(support=[float("nan")]), "add_principle", r"support\.0: Input should be", "integer")
