"""What Claude is told: the same bytes through a block, placeholders put in, facts from records."""

from orchestrator.core.contract import Gap, Step, StrategyRule, UserInstruction
from orchestrator.core.events import Opened
from orchestrator.core.exploration import ModelSettings
from orchestrator.scientist.claude import facts, prompt, tools
from orchestrator.scientist.claude.plans import Plans
from tests.factory import Driver, contract

LR = "training.learning_rate_W_start"
INSTRUCTION = """# A title

Append to {config}_analysis.md, look at {log_dir}/loss.png; block {block_number} has {n_iter_block} iterations.

| Condition | Strategy | Action |
|---|---|---|
| Default | **exploit** | Small step |
"""


def driver(**changes):
    rows = (StrategyRule(name="exploit", condition="Default", action="Small step"),)
    found = Driver(contract(n_iter_block=3, strategies=rows, **changes))
    opened = found.state.opened
    assert isinstance(opened, Opened)
    found.state.opened = opened.model_copy(update={"instruction": INSTRUCTION})
    return found


def request(state, n=1, plots=None):
    return prompt.first(state, Plans(state, n), ModelSettings(effort="low"), plots or {})


def text(found):
    return found.messages[0]["content"][0]["text"]


def test_the_prefix_is_the_same_through_a_block_and_its_end():
    found = driver()
    seen = [request(found.state)]
    found.put(0.5)
    seen.append(request(found.state))
    found.put(0.6, parent=1, changes=[(LR, 6e-3)])
    found.put(0.7, parent=2, changes=[(LR, 9e-3)])
    assert found.state.closing == 1
    seen.append(request(found.state, 0))
    prefixes = {repr((r.tools, r.system)) for r in seen}
    assert len(prefixes) == 1
    assert len({r.sha for r in seen}) == 3
    found.ended()
    assert repr((request(found.state).tools, request(found.state).system)) not in prefixes


def test_placeholders_of_loops_over_files_are_put_in():
    _, instruction = request(driver().state).system
    assert "Append to toy_analysis.md, look at runs/NNNN-A/loss.png; block 1 has 3 iterations." in instruction["text"]
    assert instruction["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert "{" not in prompt.system(driver().state, 1, "5m")[0]["text"].replace("{config}", "").replace(
        "{log_dir}", ""
    ).replace("{block_number}", "").replace("{n_iter_block}", "").replace("{iter_in_block}", "")


def test_effort_is_higher_at_a_blocks_end():
    found = driver()
    assert request(found.state).effort == "low"
    for value in (0.5, 0.6, 0.7):
        found.put(value, parent=found.state.last_iteration or None, changes=[(LR, 3e-3 + value / 1e3)])
    last = request(found.state, 0)
    assert last.effort == "high"
    assert "Block 1 is complete. This turn ends it: edit_strategy_row (compulsory, at least once)" in text(last)
    assert "Propose:" not in text(last)


def test_a_run_stands_beside_its_parent_with_the_noise():
    found = driver(gap=Gap(minuend="test_R2", subtrahend="connectivity_R2", untrusted_above=0.3))
    found.put(0.5, metrics={"test_R2": 0.95})
    found.put(0.52, of=1, seeds=(8, 42), metrics={"test_R2": 0.95})
    told = text(request(found.state, plots={2: ("plots/loss.png",)}))
    assert "| connectivity_R2 | 0.5200 | 0.51 | +0.01 |" in told
    assert "Noise of connectivity_R2, pooled over replicates: sd 0.0141, 1 d.o.f." in told
    assert "Degeneracy: gap=0.43" in told
    assert "Plots: plots/loss.png" in told
    assert "| training.learning_rate_W_start | lr_W | 3E-3 | 3E-3 | 1E-4 to 1E-2 | 3E-3 |" in told
    assert "Node 1: UCB=" in told


def test_a_failed_run_has_its_reason():
    found = driver()
    found.put(0.5)
    found.put(parent=1, changes=[(LR, 1e-2)], outcome="diverged")
    told = text(request(found.state))
    assert "Outcome: diverged" in told
    assert "| 2 | 2 | 1 | lr_W: 3E-3 -> 1E-2 | diverged |" in told


def test_user_instructions_that_were_not_answered_stand_in_memory():
    found = driver(user_instructions=(UserInstruction(text="try batch_size = 64"),))
    assert "- try batch_size = 64: not acknowledged yet" in text(request(found.state))


def test_schemas_are_strict_to_the_last_object():
    def objects(part):
        if isinstance(part, dict):
            if part.get("type") == "object":
                yield part
            for value in part.values():
                yield from objects(value)
        elif isinstance(part, list):
            for value in part:
                yield from objects(value)

    definitions = tools.definitions()
    assert [d["name"] for d in definitions] == list(tools.TOOLS)
    assert all(d["strict"] for d in definitions)
    found = [o for d in definitions for o in objects(d["input_schema"])]
    assert len(found) > len(definitions)
    assert all(o["additionalProperties"] is False and o["required"] == list(o["properties"]) for o in found)
    for word in ("$ref", "$defs", "default", "minimum", "title"):
        assert f"'{word}'" not in repr([d["input_schema"] for d in definitions])


def test_facts_are_a_function_of_the_state():
    found = driver()
    found.put(0.5)
    plans = Plans(found.state, 1)
    assert facts.render(found.state, plans, {}) == facts.render(found.state, Plans(found.state, 1), {})


def test_steps_that_the_instruction_lists_stand_beside_the_range():
    plain = driver()
    plain.put(0.5)
    assert "teps are the instruction's" not in text(request(plain.state))
    steps = (Step(op="*", value=2.0), Step(op="*", value=0.5))
    keys = (k.model_copy(update={"steps": steps}) if k.key == LR else k for k in plain.state.contract.keys)
    found = driver(keys=tuple(keys))
    found.put(0.5)
    told = text(request(found.state))
    assert "| lr_W | 3E-3 | 3E-3 | 1E-4 to 1E-2; steps x2 or /2 | 3E-3 |" in told
    assert "| 1E-7 to 1E-3 |" in told and "frozen. Steps are the instruction's mutation magnitudes" in told


def test_a_replicate_that_is_due_is_a_task():
    found = driver(replicate_every=2)
    found.put(0.5)
    assert "Due here: a replicate of the best node, 1 (every 2 iterations)" in text(request(found.state))
    found.put(0.52, of=1, seeds=(8, 42))
    assert "Due here" not in text(request(found.state))
