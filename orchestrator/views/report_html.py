"""Pieces of report.html: style, escaped text, tables, embedded images. Nothing is fetched, no script is needed."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from orchestrator.launch.folder import read_file
from orchestrator.paths import RunPaths

STYLE = """
:root{color-scheme:light dark;--text:#1b1f24;--dim:#59636e;--page:#fff;--line:#d0d7de;--faint:#eef1f4;--good:#1a7f37;
--mid:#9a6700;--bad:#cf222e;--open:#6e7781;--mark:#0969da}
@media(prefers-color-scheme:dark){:root{--text:#e6edf3;--dim:#9aa4af;--page:#0f1318;--line:#3a424b;--faint:#1a2028;
--good:#4cc265;--mid:#d9a521;--bad:#ff7b72;--open:#9aa4af;--mark:#6cb6ff}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--text);background:var(--page);max-width:1080px;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.4rem}h2{font-size:1.2rem;margin-top:2.4rem;border-bottom:1px solid var(--line);
padding-bottom:.3rem}h3{font-size:1rem;margin:1.4rem 0 .3rem}a{color:var(--mark)}nav a{margin-right:1rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px}
td,th{border-bottom:1px solid var(--line);padding:.25rem .5rem;text-align:left;vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.keep{white-space:nowrap}.flat{white-space:pre}
.dim{color:var(--dim)}small{color:var(--dim);display:block}.good{color:var(--good)}.mid{color:var(--mid)}
.bad{color:var(--bad)}.open{color:var(--open)}
pre{background:var(--faint);padding:.8rem;overflow-x:auto;font-size:12.5px;white-space:pre-wrap;overflow-wrap:anywhere}
figure{display:inline-block;width:31%;margin:.3rem 1%;vertical-align:top}figure img{width:100%;background:#fff}
figcaption{font-size:11.5px;color:var(--dim);overflow-wrap:anywhere}summary{cursor:pointer}
svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:var(--text)}svg .dim{fill:var(--dim)}
svg .good{fill:var(--good);stroke:var(--good)}svg .mid{fill:var(--mid);stroke:var(--mid)}
svg .bad{fill:var(--bad);stroke:var(--bad)}svg .open{fill:var(--open);stroke:var(--open)}svg .hollow{fill:var(--page)}
svg .rule{stroke:var(--line)}svg .band{fill:var(--faint)}svg .mark{stroke:var(--mark);fill:none}
svg .bar{fill-opacity:.3}svg text.bad,svg text.open{stroke:none}
"""
IMAGE_LIMIT = 2**20
NUMBER = "<td class=n>"
PNG = b"\x89PNG\r\n\x1a\n"


def text(value: object) -> str:
    """Return anything as escaped text, fit for an attribute too."""
    return html.escape(str(value), quote=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], empty: str = "none") -> str:
    """Return a table of cells that are HTML already; the sentence `empty` when there are no rows.

    A cell that starts with `<td` stands as it is.
    """
    rows = list(rows)
    if not rows:
        return f"<p class=dim>{text(empty)}</p>"
    kinds = [" class=n" if cell.startswith(NUMBER) else "" for cell in rows[0]]
    top = "".join(f"<th{kind}>{text(name)}</th>" for kind, name in zip(kinds, head, strict=True))
    body = ["".join(c if c.startswith("<td") else f"<td>{c}</td>" for c in row) for row in rows]
    lines = "".join(f"<tr>{row}</tr>" for row in body)
    return f"<div class=wide><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"


def right(value: object) -> str:
    """Return a cell for a number."""
    return f"{NUMBER}{text(value)}</td>"


def kept(value: str) -> str:
    """Return a list of changes (`a: 1 -> 2, b: 3 -> 4`) with one change a line, never broken inside a number."""
    return "<br>".join(f"<span class=keep>{text(part)}</span>" for part in value.split(", "))


def folded(title: str, body: str, shown: bool = False) -> str:
    """Return a part that unfolds at a click (no script)."""
    return f"<details{' open' if shown else ''}><summary>{text(title)}</summary>{body}</details>"


class Images:
    """Embeds plots until the page has `budget` bytes of them."""

    def __init__(self, budget: int = 24 * 2**20) -> None:
        self.left = budget

    def of(self, run: RunPaths) -> str:
        """Return a run's plots, of each kind the last; those that are no PNG of a sane size are left out."""
        last: dict[str, tuple[str, bytes]] = {}
        paths = [p for p in run.plots.rglob("*.png") if p.is_file() and not p.is_symlink()]
        for path in sorted(paths, key=lambda p: (p.stat().st_mtime, p.name)):
            try:
                data = read_file(path, IMAGE_LIMIT, root=run.root)
            except OSError:
                continue
            if data.startswith(PNG):
                name = str(path.relative_to(run.plots))
                last[str(path.parent / path.stem.split("_")[0])] = (name, data)
        return "".join(self._tag(name, data) for name, data in last.values())

    def _tag(self, name: str, data: bytes) -> str:
        shown = text(name)
        self.left -= len(data)
        if self.left < 0:
            return f"<figure><figcaption>{shown} (not embedded: the page is large enough)</figcaption></figure>"
        source = base64.b64encode(data).decode()
        image = f'<img alt="{shown}" src="data:image/png;base64,{source}">'
        return f"<figure>{image}<figcaption>{shown}</figcaption></figure>"
