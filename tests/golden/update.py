"""Snapshots of what is read from the golden documents: `python -m tests.golden.update` writes them anew.

A snapshot is reviewed by eye against its document before it is committed.
"""

from pathlib import Path

from orchestrator.formats import yaml_edit
from orchestrator.formats.instruction import read_instruction

HERE = Path(__file__).parent
DOCUMENTS = {p.stem: p for p in sorted((HERE / "instructions").glob("*.md"))} | {
    f"ours_{name}": HERE.parents[1] / "instructions" / f"{name}.md"
    for name in ("sparse_gnn", "recurrent_gnn", "metabolism_homeostasis", "metabolism_stoichiometry")
}
"""Snapshot -> document."""


def path_of(name):
    """Return the file of a snapshot."""
    return HERE / "snapshots" / f"{name}.yaml"


def snapshot(name):
    """Return the draft of a document as YAML, without what was not said."""
    draft = read_instruction(DOCUMENTS[name].read_text(encoding="utf-8"), DOCUMENTS[name].name)
    return yaml_edit.dump(draft.model_dump(mode="json", exclude_defaults=True))


if __name__ == "__main__":
    for each in DOCUMENTS:
        path_of(each).write_text(snapshot(each), encoding="utf-8")
