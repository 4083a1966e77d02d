"""What the scientist works with: rows of the strategy table, code that may be edited, figures to look at."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from orchestrator.core.contract import Scope, StrategyRule
from orchestrator.core.strategy_rows import MAX_ROWS, read_row
from orchestrator.formats.draft import EditableFile, StrategyRow
from orchestrator.formats.work import Work

CODE = {
    "Signal_Propagation.py": "models/signal.py",
    "MLP.py": "models/mlp.py",
    "utils.py": "models/utils.py",
}
"""File name that the written documents use -> ours; front matter `code:` wins."""
TRAINER = "graph_trainer.py"
"""Its function `data_train_X` is ours in trainers/X.py."""
NEVER = re.compile(r"^(?:GNN_PlotFigure|GNN_LLM\w*|GNN_recurrent)\.py$")
"""Programs of the loop and of the scoring: never edited, whatever a document permits."""
_CLOSED = ("trainers/prepare", "trainers/scoring")
_ALLOWED = re.compile(r"\b(?:can|may|modify|allowed|editable|necessary|needed|yes|whole)\b", re.I)
_DENIED = re.compile(r"(?:never|do not|don't|not|no|none|read-?only|frozen)\b", re.I)
_DOUBT = re.compile(r"\b(?:never|not|no|but|\w+n't)\b|\?", re.I)
_ONLY = re.compile(r"(?<![-\w])only\b", re.I)
_FUNCTION = re.compile(r"[A-Za-z_]\w*")
_LOG_FOLDER = re.compile(r"^\{\w+\}/(?:tmp_training/)?")


def strategies(work: Work) -> tuple[StrategyRule, ...]:
    """Return the rows of the strategy table with the numbers that their conditions state."""
    found = [_row(work, row) for row in work.draft.strategies]
    if len(found) > MAX_ROWS:
        where = work.draft.where(work.draft.strategies[MAX_ROWS].line)
        work.problem(where, f"{len(found)} strategy rows, at most {MAX_ROWS}; this is the first that is too many")
    for i, row in enumerate(found):
        first = next(r for r in found if r.name == row.name)
        if first is not found[i]:
            text = f"strategy {row.name}: a row of that name stands in {first.source}; a name has one row"
            work.problem(row.source, text)
    return tuple(found)


def _row(work: Work, item: StrategyRow) -> StrategyRule:
    where = work.draft.where(item.line)
    stands_for: dict[str, str] = {}

    def metric(word: str) -> str | None:
        better, name = work.evidence(word)
        if better and name:
            stands_for[better] = name
        return better

    row = read_row(item.strategy, item.condition, item.action, metric, source=where)
    if not row.known:
        text = f"strategy {row.name}: no predicate of that name: it is shown to the scientist and never triggers"
        work.problem(where, text, stops=False)
    if row.metric in stands_for:
        work.corrected(where, row.metric, stands_for[row.metric])
    return row


def scopes(work: Work) -> tuple[Scope, ...]:
    """Return the code that may be edited; a permission that is refused or unclear is a problem with its line."""
    found: list[Scope] = []
    for item in work.draft.files:
        found += _scopes(work, item)
    return tuple(dict.fromkeys(found))


def _scopes(work: Work, item: EditableFile) -> list[Scope]:
    where, only = work.draft.where(item.line), bool(_ONLY.search(item.permission))
    if not only and _DENIED.match(item.permission):
        return []
    functions = [f for f in item.functions if _FUNCTION.fullmatch(f.removesuffix("()"))]
    allowed = only or bool(_ALLOWED.search(item.permission))
    if only != bool(functions) or not allowed or _DOUBT.search(item.permission):
        text = f"{item.permission!r} does not say for certain what may change; write `Can modify if necessary` or"
        work.problem(where, f"{item.path}: {text} `ONLY modify \\`name\\` function`".replace("\\`", "`"))
        return []
    found = []
    for function in (f.removesuffix("()") for f in functions or [""]):
        path, refused = _ours(work, item.path, function)
        if refused:
            work.problem(where, f"{item.path}: {refused}; left out", stops=False)
            return []
        found.append(Scope(path=path, function=function or None, permission=item.permission, source=where))
    return found


def _ours(work: Work, path: str, function: str) -> tuple[str, str]:
    """Return our path of a document's path, and why it is refused ("" when it is not)."""
    code = work.draft.front.code
    name = PurePosixPath(path).name
    if NEVER.match(name):
        return path, "never editable: it runs the experiment or draws its plots"
    builtin = f"trainers/{function.removeprefix('data_train_')}.py" if name == TRAINER and function else CODE.get(name)
    ours = code.get(f"{path}::{function}") or code.get(path) or (path if _open(path) else builtin or path)
    ours = str(PurePosixPath(ours.partition("::")[0]))
    if NEVER.match(PurePosixPath(ours).name):
        return ours, "never editable: it runs the experiment or draws its plots"
    if not _open(ours):
        shown = ours if ours == path else f"{ours} (front matter `code:`)"
        return ours, f"{shown} is refused: only .py files of models/ and trainers/, not {' or '.join(_CLOSED)}"
    return ours, ""


def _open(path: str) -> bool:
    parts = PurePosixPath(path).parts
    inside = len(parts) > 1 and parts[0] in ("models", "trainers") and ".." not in parts and path.endswith(".py")
    return inside and "/".join(parts[:2]) not in _CLOSED


def figures(work: Work) -> tuple[str, ...]:
    """Return the plots to look at: below the run folder's `plots/` for our trainer, as written for another one."""
    named = [f.text for f in work.draft.figures]
    if work.spec.command is None:
        named = [_LOG_FOLDER.sub("", n).removeprefix("plots/") for n in named]
        named = [f"plots/{re.sub(r'[.]tiff?$', '.png', n)}" for n in named]
    return tuple(dict.fromkeys(named))
