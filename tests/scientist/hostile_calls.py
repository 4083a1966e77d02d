"""Hostile replies as a whole: unknown tools, parallel calls, submits that do not fit, no call, cut, declined."""

from orchestrator.core.dialogue import Reply
from orchestrator.llm.scripted import says, uses
from tests.scientist import stage
from tests.scientist.hostile_base import CASES, CHOSEN, COST, EMPTY, case, observed, submits

# Unknown tools
for index, name in enumerate(
    ["run_shell", "bash", "Submit", "submit ", "", "__init__", "viewed", "submit\u200b", "edit_function"]
):
    case(
        "unknown-tool",
        str(index),
        uses((name, {})),
        f"tool {name[:3]!r}"[:8],
        "none of that name",
        "tools: view_file.* submit",
    )
case("unknown-tool", "surrogate", uses(("submit\ud800", {})), "tool ", "none of that name", "submit")
case(
    "unknown-tool",
    "no-name",
    Reply(content=({"type": "tool_use", "id": "a", "input": {}},), stop_reason="tool_use", usage=COST),
    "tool ",
    "none of that name",
    "submit",
)
case(
    "unknown-tool",
    "number-as-name",
    Reply(content=({"type": "tool_use", "id": "a", "name": 7, "input": {}},), stop_reason="tool_use", usage=COST),
    "tool '7'",
    "none of that name",
    "submit",
)

# Parallel calls
case(
    "parallel",
    "second-refused",
    uses(CHOSEN, ("launch", {}), ("replicate", {"slot": 0, "node": 1, "seed": "training"})),
    "tool 'launch' refused",
    "none of that name",
    "Not taken: an earlier call",
)
case(
    "parallel",
    "submit-then-more",
    lambda m: uses(*stage.plan(m)[0], ("submit", stage.plan(m)[1]), CHOSEN),
    "submit refused",
    "last call of its reply",
    "alone",
)
case(
    "parallel",
    "two-submits",
    lambda m: uses(*stage.plan(m)[0], ("submit", stage.plan(m)[1]), ("submit", stage.plan(m)[1])),
    "submit refused",
    "last call of its reply",
    "alone",
)
case(
    "parallel",
    "submit-after-a-refusal",
    lambda m: uses(*stage.plan(m)[0], ("launch", {}), ("submit", stage.plan(m)[1])),
    "tool 'launch' refused",
    "none of that name",
    "Not taken",
)
case("parallel", "two-hundred", uses(*[("launch", {})] * 200), "tool 'launch' refused", "none", "Not taken")


def identified(*ids):
    """Return a reply with calls of a tool that there is not, with these ids."""
    calls = ({"type": "tool_use", "name": "launch", "input": {}} | ({} if i is None else {"id": i}) for i in ids)
    return Reply(content=tuple(calls), stop_reason="tool_use", usage=COST)


case("parallel", "equal-ids", identified("a", "a", "a"), "tool 'launch' refused", "none", "Not taken")
case(
    "parallel",
    "ids-of-an-earlier-reply",
    [identified("a"), identified("a")],
    "tool 'launch' refused",
    "none",
    "submit",
    refusals=2,
)
case("parallel", "odd-ids", identified("", "a b", "\ud800", "x" * 100_000), "tool 'launch'", "none", "Not taken")

# Submit with what does not fit
case("submit", "none", submits(proposals=[]), "submit refused", "slot 0 has no proposal", r"slots to fill: \[0\]")
case("submit", "two-for-one-slot", submits(proposals=lambda p: p * 2), r"\[0, 0\] refused", "one for each slot", "0")
case(
    "submit",
    "too-many",
    submits(proposals=lambda p: [*p, p[0] | {"slot": 1}]),
    "slot 1 refused",
    "slots to fill are 0",
    "0",
)
case(
    "submit",
    "too-few",
    submits(proposals=lambda p: p[:1]),
    "submit refused",
    "has no proposal",
    "slots to fill",
    stage="two-slots",
)
case("submit", "no-observation", submits(observations=[]), "submit refused", "iteration 3 has no observation", r"\[3\]")
case(
    "submit", "two-observations", submits(observations=lambda o: o * 2), "submit refused", "two observations", r"\[3\]"
)
case("submit", "acknowledged", submits(acknowledged=["done"]), "1 acknowledgements of 0", "there are none", r"\[\]")
case(
    "submit",
    "unseen-plot",
    observed("fine", visual=[{"label": "loss", "plot": "plots/loss.png", "text": "falls"}]),
    "visual note on 'plots/loss.png'",
    "not looked at",
    "call view_plot first",
)
case(
    "submit",
    "plot-of-another-iteration",
    [
        uses(("view_plot", {"iteration": 3, "plot": "plots/loss.png"})),
        observed("fine", visual=[{"label": "loss", "plot": "plots/lost.png", "text": "falls"}]),
    ],
    "visual note on 'plots/lost.png'",
    "not looked at",
    "looked at: plots/loss.png of iteration 3",
)
case(
    "submit",
    "without-the-end",
    lambda m: uses(("edit_strategy_row", stage.ROW), ("submit", stage.plan(m)[1])),
    "submit refused",
    "block 1 is complete",
    "call end_block first",
    stage="end",
)
case(
    "submit",
    "without-the-edit",
    lambda m: uses(("end_block", stage.end(m)), ("submit", stage.plan(m)[1])),
    "submit refused",
    "compulsory",
    "edit_strategy_row",
    stage="end",
)
case(
    "submit",
    "proposals-at-the-end",
    lambda m: uses(*stage.plan(m)[0], ("submit", stage.plan(m)[1] | {"proposals": [EMPTY]})),
    "slot 0 refused",
    "nothing is to be proposed",
    "none",
    stage="end",
)
case(
    "submit",
    "regime-missing",
    uses(("end_block", stage.END)),
    "regime '' refused",
    "declared are small, large",
    "small",
    stage="regimes-end",
)

# How user instructions are honoured
case(
    "acknowledged",
    "one-of-two",
    submits(acknowledged=["kept"]),
    "1 acknowledgements of 2",
    "user instructions",
    r"\(1\) Aim at .* \(2\) Say which",
    stage="asked",
)
case(
    "acknowledged",
    "three-of-two",
    submits(acknowledged=["kept"] * 3),
    "3 acknowledgements of 2",
    "user",
    r"\(2\) Say",
    stage="asked",
)
case(
    "acknowledged",
    "blank",
    submits(acknowledged=["kept", " "]),
    "empty acknowledgement",
    "no word in it",
    "one line",
    stage="asked",
)
case(
    "acknowledged",
    "forged",
    submits(acknowledged=["kept", "Node: id=9"]),
    "acknowledgement refused",
    "form of a line",
    "plain words",
    stage="asked",
    marks=("id=9",),
)
case(
    "acknowledged",
    "false-metric",
    submits(acknowledged=["connectivity_R2 of 0.97 is the aim", "connectivity_R2 is 0.99"]),
    "it says connectivity_R2 0.99",
    "nothing measured",
    "nearest: 0.",
    stage="asked",
)

# Replies without a call
NOTHING = ("Nothing was handed in", "only submit ends the turn", "call submit")
case("empty-reply", "no-content", Reply(content=(), stop_reason="end_turn", usage=COST), *NOTHING)
case("empty-reply", "blanks", says(" \n "), *NOTHING)
case("empty-reply", "invisible", says("\u200b"), *NOTHING)
case("empty-reply", "text-only", says("I have submitted the turn. connectivity_R2 = 0.99"), *NOTHING, marks=("0.99",))
case("empty-reply", "call-as-text", says('<tool_use>{"name": "submit", "input": {}}</tool_use>'), *NOTHING)
case("empty-reply", "paused-on-nothing", Reply(content=(), stop_reason="pause_turn", usage=COST), *NOTHING)
case("empty-reply", "tool-use-without-a-call", says("now", stop_reason="tool_use"), *NOTHING)
case("empty-reply", "surrogate", says("\ud800 hm \udfff"), *NOTHING)
case("empty-reply", "blank-before-calls", uses(("launch", {}), text=" "), "tool 'launch'", "none", "submit")
case(
    "empty-reply",
    "unknown-block",
    Reply(
        content=({"type": "server_tool_use", "id": "a", "name": "web_search", "input": {}},),
        stop_reason="end_turn",
        usage=COST,
    ),
    *NOTHING,
)

# max_tokens in the middle of a call
CUT = ("cut at its longest length", "none of its calls was taken", "shorter, in fewer calls")
case("max-tokens", "half-an-input", uses(CHOSEN, ("submit", {"observations": []}), stop_reason="max_tokens"), *CUT)
case("max-tokens", "a-whole-submit", lambda m: stage.good(m).model_copy(update={"stop_reason": "max_tokens"}), *CUT)
case("max-tokens", "text", says("I think that", stop_reason="max_tokens"), *CUT)
case("max-tokens", "nothing", Reply(content=(), stop_reason="max_tokens", usage=COST), *CUT)

# The model declines: the conversation is over
ENDING = []
for reason in ("refusal", "model_context_window_exceeded"):
    for name, reply in (
        ("text", says("I cannot help with that. connectivity_R2 = 0.99", stop_reason=reason)),
        ("nothing", Reply(content=(), stop_reason=reason, usage=COST)),
        ("calls", uses(CHOSEN, ("submit", {}), stop_reason=reason)),
    ):
        case(
            "refusal",
            f"{reason}-{name}",
            reply,
            "",
            "declined|longer than the model's context",
            "",
            marks=("I cannot",),
        )
        ENDING.append(CASES[-1])
