import re
from pathlib import Path

import pytest

from orchestrator.core.records import RuleEdit
from orchestrator.core.strategy import ALL_PREDICATES
from orchestrator.core.strategy_kinds import KINDS, READERS, kind_of
from orchestrator.core.strategy_rows import MAX_ROWS, edited, read_row

METRICS = {m: m for m in ("connectivity_R2", "test_R2", "rate_constants_R2")} | {"conn_R2": "connectivity_R2"}


@pytest.mark.parametrize(
    ("name", "condition", "metric", "numbers", "assumed"),
    [
        ("exploit", "Default", None, {}, ()),
        ("failure-probe", "3+ consecutive R² ≥ 0.9", None, {"count": 3, "at_least": 0.9}, ()),
        ("failure-probe", "3+ consecutive R2 >= 0.95", None, {"count": 3, "at_least": 0.95}, ()),
        ("failure-probe", "four consecutive test_R2 above 0.9", "test_R2", {"count": 4, "above": 0.9}, ()),
        ("boundary-probe", "3+ consecutive converged", None, {"count": 3}, ()),
        ("explore", "n_iter_block/4 consecutive successes", None, {"block_fraction": 0.25}, ()),
        ("explore", "5 consecutive successes", None, {"count": 5}, ()),
        ("degeneracy-break", "degeneracy gap > 0.3 for 3+ iters", None, {"above": 0.3, "count": 3}, ()),
        ("degeneracy-break", "Degeneracy gap > 0.3", None, {"above": 0.3, "count": 1}, ("count",)),
        ("forced-branch", "Same R² plateau (±0.05) for 3+ iters", None, {"within": 0.05, "count": 3}, ()),
        ("forced-branch", "R2 within 0.02 for 5 iterations", None, {"within": 0.02, "count": 5}, ()),
        ("forced-branch", "a plateau", None, {"within": 0.05, "count": 3}, ("count", "within")),
        ("forced-branch", "100% convergence, branching<10%", None, {"converged": 1, "below": 0.1, "count": 4},
         ("count",)),
        ("switch-dimension", "4+ consecutive same-param mutations", None, {"count": 4}, ()),
        ("switch-dimension", "> 4 consecutive same-param mutations", None, {"count": 5}, ()),
        ("switch-param", "Same param mutated 4+ times", None, {"count": 4}, ()),
        ("recombine", "2+ distant nodes with R² > 0.9", None, {"count": 2, "above": 0.9}, ()),
        ("dimension-sweep", "test_R2 > 0.998 plateau for 3+ iters", "test_R2",
         {"above": 0.998, "count": 3, "within": 0.05}, ("within",)),
        ("exploit-tighten", "improvement rate < 30% in block", None, {"below": 0.3, "count": 4}, ("count",)),
        ("exploit-tighten", "improvement rate below 40 percent", None, {"below": 0.4, "count": 4}, ("count",)),
        ("regime-shift", "best test_R2 unchanged for 2+ batches", "test_R2", {"count": 2}, ()),
        ("seed-robustness", "all perturbations from best degrade", None, {"count": 3}, ("count",)),
        ("cross-seed-optimize", "best test_R2 unchanged for 2+ blocks", "test_R2", {"count": 2}, ()),
        ("universal-recipe-validate", "new recipe beats old at 2+ seeds", None, {"count": 2}, ()),
        ("variance-reduction", "same config gives R2 range > 0.05 across runs", None, {"above": 0.05}, ()),
        ("variance-reduction", "runs of one config differ by more than 0.05", None, {"above": 0.05}, ()),
        ("L1-calibration", "connectivity_R2 0.3-0.7 with low degeneracy gap", "connectivity_R2",
         {"low": 0.3, "high": 0.7, "gap": 0.3}, ("gap",)),
        ("code-modification", "conn_R2 plateau (±0.02) across 4+ configs with different params", "connectivity_R2",
         {"within": 0.02, "count": 4}, ()),
        ("code-refine", "code change improved conn_R2", "connectivity_R2", {}, ()),
        ("code-revert", "code change degraded conn_R2", "connectivity_R2", {}, ()),
        ("code-next-priority", "code change had zero effect (conn_R2 unchanged)", "connectivity_R2", {}, ()),
        ("multi-code-modification", "conn_R2 plateau persists after 2+ code changes", "connectivity_R2",
         {"count": 2, "within": 0.02}, ("within",)),
        ("identifiability-test", "conn_R2 plateau persists after ALL code changes", "connectivity_R2",
         {"count": 4, "within": 0.02}, ("count", "within")),
        ("fixed-model-sweep", "lin_edge_mode=tanh gives same conn_R2 as mlp", "connectivity_R2", {"within": 0.02},
         ("within",)),
        ("robustness-test", "Good config found", None, {}, ()),
        ("boundary-skip", "3+ partial results probing boundary", None, {"count": 3}, ()),
        ("homeo-kick", "rate_constants_R2 > 0.9 but slopes ~0", "rate_constants_R2", {"above": 0.9, "slope": 0.1},
         ("slope",)),
        ("embedding-focus", "Slopes moving but embeddings stuck", None, {"slope": 0.1, "count": 3, "within": 0.02},
         ("count", "slope", "within")),
        ("k-protect", "All partial-k for 4+ iters", None, {"count": 4}, ()),
    ],
)  # fmt: skip
def test_numbers_and_metric_are_read_from_the_condition(name, condition, metric, numbers, assumed):
    row = read_row(name, condition, "do it", METRICS.get, source="i.md:3")
    assert row.known and row.source == "i.md:3"
    assert (row.metric, row.numbers, row.assumed) == (metric, pytest.approx(numbers), assumed)


def test_a_row_without_a_predicate_is_kept_and_marked():
    row = read_row("moonwalk", "after 3+ full moons", "dance")
    assert not row.known and row.numbers == {} and row.action == "dance"


def test_one_name_with_two_meanings_is_told_apart_by_the_condition():
    assert kind_of("forced-branch", "100% convergence, branching<10%").variant == "converged"
    assert kind_of("forced-branch", "Same R² plateau (±0.05) for 3+ iters").variant == ""


def test_every_kind_has_a_predicate_and_readers_and_its_cue_compiles():
    assert {k.key for k in KINDS if k.group != "default"} == set(ALL_PREDICATES)
    for kind in KINDS:
        assert set(kind.reads) <= set(READERS)
        re.compile(kind.cue)


def rows():
    return (
        read_row("exploit", "Default", "highest UCB"),
        read_row("dimension-sweep", "test_R2 plateau for 3+ iterations", "new key", METRICS.get),
    )


def edit(op, name, condition="", action=""):
    return RuleEdit(op=op, strategy=name, condition=condition, action=action, reason="measured")


def test_edits_add_change_and_remove_rows():
    new = edited(rows(), (edit("add", "forced-branch", "R2 within 0.01 for 4+ iterations", "branch"),), 2)
    assert new[-1].numbers == {"within": 0.01, "count": 4} and new[-1].block == 2
    changed = edited(new, (edit("change", "dimension-sweep", "test_R2 plateau for 5+ iterations"),), 3)
    assert changed[1].numbers["count"] == 5 and changed[1].metric == "test_R2" and changed[1].action == "new key"
    assert [r.name for r in edited(changed, (edit("remove", "exploit"),), 4)] == ["dimension-sweep", "forced-branch"]


def test_edits_of_rows_that_are_not_there_and_rows_beyond_the_cap_change_nothing():
    assert edited(rows(), (edit("change", "explore", "4+ successes"), edit("remove", "recombine")), 1) == rows()
    full = tuple(read_row(f"row-{i}", "x", "y") for i in range(MAX_ROWS))
    assert edited(full, (edit("add", "explore", "4+ successes"),), 1) == full


def test_the_page_for_people_says_what_the_registry_says():
    page = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
    for kind in KINDS:
        names = ", ".join(f"`{n}`" for n in kind.names) + (f" ({kind.variant})" if kind.variant else "")
        defaults = ", ".join(f"{n} {v:g}" for n, v in kind.defaults.items()) or "-"
        row = f"| {names} | {kind.group} | {kind.meaning} | {defaults} | {kind.again or 'never'} |"
        assert row in page.splitlines(), f"docs/strategies.md lacks this row: {row}"
