"""An explored toy home whose instruction names files of every kind, with all that must not be read planted in it."""

import io
import os
import shutil

import pytest

from orchestrator.engine import opening, sealing
from orchestrator.engine.reading import Library
from orchestrator.errors import RefusedError
from tests import toy

EXTRA = """
## Code

| File | Permission |
| --- | --- |
| `trainers/signal.py` | ONLY the function `data_train_signal` |

## Figures

- `plots/loss.png`: the loss
- `plots/matrix/comparison_*.png`: learned against true

## Background

Read [the notes](docs/background%20notes.md#part) and `docs/paper.pdf`; `docs/broken.pdf`, `docs/locked.pdf`,
`docs/scan.pdf`, `docs/latin.txt`, `docs/huge.txt`, `docs/out.md`, `docs/to_journal.md`, `docs/inside.md`, `docs`,
`docs/missing.md`, `docs/pipe.md`, `../secret.md`, `/etc/passwd`, `analysis.md`, `journal.jsonl`, `.env`, `own.md`,
`explorations/toy/out/journal.jsonl`, `.git/config`, `truth/W.txt`, `docs/dir/../own.md`, <span>`docs/html.md`</span>.

```
docs/fenced.md
```
"""
BAD = ("", "/etc/passwd", "~/x", "../secret.md", "docs/../own.md", "docs//paper.pdf", "./memory.md", "docs/", "/", "..",
       "runs/../journal.jsonl", "runs/0003-1/../0003-1/analysis.log", "memory.md\0", "memory.md\n", "a" * 5000,
       "\ud800", "..\\secret.md", "\x1b[31m", None, 3, 3.0, True, b"memory.md", ["memory.md"], {"name": 1}, "#2",
       "##")  # fmt: skip
"""Names of the wrong form."""


def pdf(*pages):
    """Return a small PDF with one line of text on each page, written by hand."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    parts = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
             "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]  # fmt: skip
    for i, line in enumerate(pages):
        stream = f"BT /F1 12 Tf 20 20 Td ({line}) Tj ET" if line else ""
        parts.append(f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents {5 + 2 * i} 0 R"
                     "/Resources<</Font<</F1 3 0 R>>>>>>")  # fmt: skip
        parts.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    data, offsets = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, start=1):
        offsets.append(len(data))
        data += f"{number} 0 obj{part}endobj\n".encode()
    table = "".join(f"{at:010d} 00000 n \n" for at in offsets)
    end = f"xref\n0 {len(parts) + 1}\n0000000000 65535 f \n{table}trailer<</Root 1 0 R/Size {len(parts) + 1}>>\n"
    return data + f"{end}startxref\n{len(data)}\n%%EOF".encode()


def locked(data):
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.encrypt("secret", algorithm="RC4-128")
    packed = io.BytesIO()
    writer.write(packed)
    return packed.getvalue()


def explore(folder):
    """Return a home with three finished runs, the second crashed, and the files that its instruction names."""
    home = toy.make_home(folder, "--faults", "2=exit1", instruction=toy.INSTRUCTION + EXTRA)
    (home / "trainers" / "signal.py").write_text("def data_train_signal():\n    '''The loop.'''\n")
    docs = home / "docs"
    docs.mkdir()
    (docs / "background notes.md").write_text("two populations\n")
    (docs / "paper.pdf").write_bytes(pdf("Asymptotic dynamics", "Second page"))
    (docs / "broken.pdf").write_bytes(b"%PDF-1.4\nnothing of the kind")
    (docs / "locked.pdf").write_bytes(locked(pdf("hidden")))
    (docs / "scan.pdf").write_bytes(pdf("", ""))
    (docs / "latin.txt").write_bytes("naïve".encode("latin-1"))
    (docs / "huge.txt").write_text("x" * (2**20 + 1))
    (folder / "secret.md").write_text("the key")
    (docs / "out.md").symlink_to(folder / "secret.md")
    (docs / "to_journal.md").symlink_to(home / "explorations" / "toy" / "out" / "journal.jsonl")
    (docs / "inside.md").symlink_to("background notes.md")
    (docs / "fenced.md").write_text("in a fence")
    (docs / "unnamed.md").write_text("nobody named it")
    os.mkfifo(docs / "pipe.md")
    (home / "explorations" / "toy" / "own.md").write_text("beside the config\n")
    (home / ".env").write_text("KEY=1")
    done = toy.run(home, "explore", "toy", "--iterations", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def copy(explored, folder):
    """Return a copy of an explored home that a test may spoil."""
    target = folder / "a home" / "home"
    pipe = explored / "docs" / "pipe.md"
    shutil.copytree(
        explored, target, symlinks=True, ignore=lambda at, names: ["pipe.md"] if at == str(pipe.parent) else []
    )
    os.mkfifo(target / "docs" / "pipe.md")
    shutil.copy(explored.parent / "secret.md", target.parent)
    for name, to in (("out.md", "secret.md"), ("to_journal.md", "home/explorations/toy/out/journal.jsonl")):
        (target / "docs" / name).unlink()
        (target / "docs" / name).symlink_to(target.parent / to)
    return target


def opened(home):
    setup = opening.load(home, "toy", opening.Wishes())
    return Library(setup), sealing.state_of(setup.paths)


def refused(library, state, name):
    with pytest.raises(RefusedError) as caught:
        library.view_file(state, name)
    told = str(caught.value)
    assert "was refused" in told and len(told) < 4000
    return told
