"""Code edits in the making, over a real repository: drafts of a slot, trials asked once, commits, combinations."""

from types import SimpleNamespace

import pytest

from orchestrator.core.contract import Scope
from orchestrator.core.events import CodeChecked
from orchestrator.core.records import sha_of
from orchestrator.engine.workbench import Workbench
from orchestrator.errors import RefusedError
from orchestrator.scientist.claude import tools
from orchestrator.scientist.claude.plans import Plans
from orchestrator.vcs import git
from tests import code_toy, edited
from tests.factory import Driver, contract
from tests.scientist.test_plans import change, choose

PATH = "trainers/signal.py"
SCOPES = (
    Scope(path=PATH, function="data_train_signal", permission="ONLY"),
    Scope(path="models/m.py", permission="can"),
)
EMPTY = dict.fromkeys(("view_range", "file_text", "old_str", "new_str", "insert_line", "insert_text"))


class Stage:
    """Four finished nodes of a block in which code may be edited, their repository, and a trial that is counted."""

    def __init__(self, folder):
        (folder / "source" / "trainers").mkdir(parents=True)
        (folder / "source" / "models").mkdir()
        (folder / "source" / PATH).write_text(code_toy.SIGNAL)
        (folder / "source" / "models" / "m.py").write_text(code_toy.MODEL)
        self.out = folder / "out"
        self.out.mkdir()
        commit, tree = git.commit_code(self.out, folder / "source", "exploration/toy", "code in use")
        self.first, self.tree = commit, tree
        made = contract(code="on", scopes=SCOPES, unsandboxed=True, n_iter_block=24)
        self.driver = Driver(made)
        opened = self.driver.state.opened.model_copy(update={"code": tree})
        self.driver.state.opened = opened
        self.driver.put(0.5, code=tree)
        for step in (4e-3, 5e-3, 6e-3):
            self.driver.put(0.5, parent=1, code=tree, changes=(("training.learning_rate_W_start", step),))
        self.tried, self.ok = [], True
        self.bench = Workbench(SimpleNamespace(out=self.out), lambda: self.driver.state, self.trial)

    def trial(self, tree, candidate):
        self.tried.append(tree)
        config = candidate.config
        found = CodeChecked(
            tree=tree, config_sha=sha_of(config), ok=self.ok, sentence="" if self.ok else "it died", sandbox="none"
        )
        self.driver.add(found)
        return found

    def plans(self):
        return Plans(self.driver.state, 1, self.bench)


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def call(plans, command, path=PATH, **given):
    return plans.edit_code(tools.EditCode(slot=0, command=command, path=path, **(EMPTY | given)))


def replace(plans, old=code_toy.STEP, new="gain = gain + 0.1 * rate", path=PATH):
    return call(plans, "str_replace", path, old_str=old, new_str=new)


def said(change="a rate that gains", strategy="code-modification"):
    return [tools.Plan(slot=0, strategy=strategy, parent_rule="the best", hypothesis="it rises", change=change)]


def test_an_edit_is_shown_tried_once_and_committed(stage):
    plans = stage.plans()
    choose(plans, 0, 1)
    assert "gain = gain + 0.0 * rate" in call(plans, "view")
    shown = replace(plans)
    assert "data_train_signal of trainers/signal.py, +1 -1 lines" in shown
    assert "-        gain = gain + 0.0 * rate\n+        gain = gain + 0.1 * rate" in shown
    (made,) = plans.proposals(said())
    assert made.mutation.kind == "code" and made.mutation.code.change == "a rate that gains"
    assert (
        made.code != stage.tree
        and made.training_seed == 7
        and made.config_sha == stage.driver.state.nodes[1].config_sha
    )
    assert "0.1 * rate" in stage.bench.text(made.code, PATH)
    assert plans.proposals(said()) == (made,)  # asked again, as after a kill: the same commit, no second trial
    assert stage.tried == [made.code]


def test_what_fails_its_trial_is_refused_and_not_committed(stage):
    stage.ok = False
    plans = stage.plans()
    choose(plans, 0, 1)
    replace(plans)
    for _ in range(2):
        with pytest.raises(RefusedError, match="iteration 5 refused: it died"):
            plans.proposals(said())
    assert len(stage.tried) == 1
    told = git.refs(stage.out)
    assert told == {}


def test_edits_add_up_and_are_taken_back(stage):
    plans = stage.plans()
    choose(plans, 0, 1)
    replace(plans)
    call(plans, "insert", insert_line=13, insert_text="        # a remark\n        rate = 0.9 * rate\n")
    assert "0.9 * rate" in call(plans, "view") and "0.1 * rate" in call(plans, "view", view_range=[10, 18])
    call(plans, "str_replace", old_str="        # a remark\n        rate = 0.9 * rate\n", new_str="")
    assert "began with again" in replace(plans, "gain = gain + 0.1 * rate", code_toy.STEP)
    with pytest.raises(RefusedError, match="nothing changes"):
        plans.proposals(said(""))


def on_disk(stage):
    return {path: path.read_bytes() for path in stage.out.parent.rglob("*") if path.is_file()}


def test_refusals_change_nothing(stage):
    plans, before = stage.plans(), on_disk(stage)
    with pytest.raises(RefusedError, match="call choose_parent first"):
        replace(plans)
    choose(plans, 0, 1)
    for path in ("trainers/other.py", "../x.py", "trainers/signal.py ", "trainers/prepare/x.py"):
        with pytest.raises(RefusedError, match=r"files that may: trainers/signal.py, models/m.py"):
            replace(plans, path=path)
    with pytest.raises(RefusedError, match=r"outside"):
        replace(plans, "SCALE = 1.0", "SCALE = 2.0")
    with pytest.raises(RefusedError, match="gain = gain"):  # the nearest lines are shown
        replace(plans, "gain = gain + 0.0 * rat3")
    with pytest.raises(RefusedError, match="file_text is missing"):
        call(plans, "create")
    with pytest.raises(RefusedError, match="may not be deleted or renamed"):
        call(plans, "create", file_text="print(1)\n")
    with pytest.raises(RefusedError, match="nothing changes"):
        plans.proposals(said(""))
    assert on_disk(stage) == before and stage.tried == []


def test_code_and_config_never_change_together(stage):
    plans = stage.plans()
    choose(plans, 0, 1)
    replace(plans)
    with pytest.raises(RefusedError, match="code and config never change together"):
        change(plans, 0, "batch_size", 16)
    choose(plans, 0, 1)  # clears the slot
    change(plans, 0, "batch_size", 16)
    with pytest.raises(RefusedError, match="another change already"):
        replace(plans)


def test_one_file_and_one_line_that_says_what_changes(stage):
    plans = stage.plans()
    choose(plans, 0, 1)
    replace(plans)
    with pytest.raises(RefusedError, match="edits trainers/signal.py already"):
        replace(plans, "return 2 * x", "return 3 * x", "models/m.py")
    with pytest.raises(RefusedError, match="say in one short line what it changes"):
        plans.proposals(said(""))
    with pytest.raises(RefusedError, match="at most 120"):
        plans.proposals(said("x" * 121))


def test_a_change_is_told_only_of_an_edit(stage):
    plans = stage.plans()
    choose(plans, 0, 1)
    change(plans, 0, "batch_size", 16)
    with pytest.raises(RefusedError, match="no code is edited"):
        plans.proposals(said(strategy="exploit"))


def test_tools_are_there_only_where_code_may_be_edited(stage):
    assert not set(tools.CODE_TOOLS) & {d["name"] for d in tools.definitions()}
    assert set(tools.CODE_TOOLS) <= {d["name"] for d in tools.definitions(True)}
    with pytest.raises(RefusedError, match="there is none of that name"):
        tools.read("edit_code", {})
    off = Driver()
    off.put(0.5)
    plans = Plans(off.state, 1, stage.bench)
    choose(plans, 0, 1)
    with pytest.raises(RefusedError, match="`code: off`"):
        replace(plans)


def put(stage, value, made):
    """Run a proposal, as the engine would."""
    from orchestrator.core.events import Turned
    from orchestrator.core.records import Turn

    state = stage.driver.state
    turn = Turn(turn=len(state.turns) + 1, based_on=state.seq, scientist="hand", proposals=(made,))
    stage.driver.add(Turned(turn=turn))
    if value is None:
        stage.driver.end(made.iteration, outcome="crashed")
    else:
        stage.driver.end(made.iteration, value)
    return made.iteration


def test_a_repair_begins_with_the_crashed_code_and_stands_on_its_commit(stage):
    plans = stage.plans()
    choose(plans, 0, 1)
    replace(plans, new="gain = gain + [0.1][epoch]")
    (crashed,) = plans.proposals(said("a table"))
    number = put(stage, None, crashed)
    plans = stage.plans()
    told = plans.repair_code(tools.RepairCode(slot=0, iteration=number))
    assert "the code of iteration 5 is to be mended, on node 1" in told
    assert "[0.1][epoch]" in call(plans, "view")
    with pytest.raises(RefusedError, match="nothing was changed in the code of node 5"):  # nothing was mended
        plans.proposals(said("the same again"))
    replace(plans, "[0.1][epoch]", "[0.1][0]")
    (made,) = plans.proposals(said("its first entry"))
    code = made.mutation.code
    assert (made.parent, made.base, code.repairs) == (1, number, number)
    assert code.edits[0].added == 1  # against the parent
    above = code_git(stage, "rev-parse", f"{code.commit}^")
    assert above == crashed.mutation.code.commit


def two_slots(stage, *steps):
    """Return the refusal of a turn whose two slots make two edits."""
    plans = Plans(stage.driver.state, 2, stage.bench)
    for slot, (begin, old, new) in enumerate(steps):
        begin(plans, slot)
        given = EMPTY | {"old_str": old, "new_str": new}
        plans.edit_code(tools.EditCode(slot=slot, command="str_replace", path=PATH, **given))
    with pytest.raises(RefusedError) as refused:
        plans.proposals([said(f"edit {slot}")[0].model_copy(update={"slot": slot}) for slot in (0, 1)])
    return str(refused.value)


def test_two_slots_of_a_turn_do_not_mend_the_same_crash(stage):
    plans = stage.plans()
    choose(plans, 0, 1)
    replace(plans, new="gain = gain + [0.1][epoch]")
    number = put(stage, None, plans.proposals(said("a table"))[0])

    def begin(plans, slot):
        plans.repair_code(tools.RepairCode(slot=slot, iteration=number))

    told = two_slots(stage, (begin, "[0.1][epoch]", "[0.1][0]"), (begin, "[0.1][epoch]", "[0.1][-1]"))
    assert f"a repair of iteration {number} refused: iteration 6 of this turn mends it" in told


def test_two_slots_of_a_turn_do_not_make_the_same_edit(stage):
    def begin(plans, slot):
        choose(plans, slot, 1)

    new = "gain = gain + 0.1 * rate"
    told = two_slots(stage, (begin, code_toy.STEP, new), (begin, code_toy.STEP, f"{new}  # again"))
    assert "iteration 5 of this turn is the same edit" in told
    assert len(stage.tried) == 1


def code_git(stage, *words):
    import subprocess

    return subprocess.run(["git", "-C", stage.out, *words], capture_output=True, text=True, check=True).stdout.strip()


def test_two_neutral_edits_of_one_parent_are_combined(stage):
    nodes = []
    for old, new in ((code_toy.STEP, "gain = gain + 0.0 * math.cos(rate)"), ("rate = SCALE", "rate = SCALE * SCALE")):
        plans = stage.plans()
        choose(plans, 0, 1)
        replace(plans, old, new)
        (made,) = plans.proposals(said(new))
        nodes.append(put(stage, 0.5, made))
        for seed in (8, 9):
            if nodes[0] == nodes[-1]:
                stage.driver.put(0.5, of=1, seeds=(seed, 42), code=stage.tree)
            edited.again(stage.driver, nodes[-1], 0.5, seed)
    plans = stage.plans()
    told = plans.combine_code(tools.CombineCode(slot=0, first=nodes[0], second=nodes[1]))
    assert "together, on node 1" in told
    with pytest.raises(RefusedError, match="only under the strategy multi-code-modification"):
        plans.proposals(said("both", "exploit"))
    with pytest.raises(RefusedError, match="combines two edits as they are"):
        replace(plans)
    (made,) = plans.proposals(said("both", "multi-code-modification"))
    text = stage.bench.text(made.code, PATH)
    assert "math.cos(rate)" in text and "SCALE * SCALE" in text
    assert made.mutation.code.combines == tuple(nodes)
    with pytest.raises(RefusedError, match="two code edits of one parent"):
        plans.combine_code(tools.CombineCode(slot=0, first=nodes[0], second=2))
