"""The section of report.html about slots: how well each was used, and a timeline of what ran where."""

from __future__ import annotations

import math
from collections.abc import Callable

from orchestrator.core.usage import RunTime, Usage, Use, length, within
from orchestrator.views import lines
from orchestrator.views.report_html import right, table, text
from orchestrator.views.report_svg import WIDTH, svg

LEFT, ROLE_LEFT, RIGHT, TOP, ROW, BAR = 60, 160, 12, 12, 26, 18
"""`ROLE_LEFT`: room for the slots' names when they have roles."""
DIGIT = 7.5
"""Width of a digit of a bar's number."""
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 6 * 3600, 12 * 3600, 24 * 3600)
"""Distances of the time axis' ticks; beyond the last one, whole days."""
DEFINITIONS = (
    "Busy: from a run's start for as long as it trained and scored. Idle: the slot existed in a session and was not "
    "busy, data preparation included. Utilisation: busy of busy and idle. Mean wait: from the turn that proposed an "
    "iteration (or from the end of an attempt that is run again) to the start, while a session was on."
)


def section(used: Usage) -> str:
    """Return the section: table, timeline and what the words mean."""
    if used.total.utilisation is None:
        return "<p class=dim>nothing has run yet</p>"
    return f"{figures(used)}{timeline(used)}<p class=dim>{text(DEFINITIONS)}</p>"


def figures(used: Usage) -> str:
    """Return a row a slot, and one for all when there are several."""
    roles, devices = any(slot.role for slot in used.slots), _devices(used)
    rows = []
    for slot in used.slots:
        named = [*([text(slot.role or "")] if roles else []), *([text(devices[slot.slot])] if any(devices) else [])]
        rows.append([right(slot.slot), *named, *_cells(slot)])
    if len(used.slots) > 1:
        rows.append([right("all"), *[""] * (roles + any(devices)), *_cells(used.total)])
    head = ["slot", *["role"] * roles, *["device"] * any(devices)]
    return table((*head, "runs", "busy", "idle", "of it preparing data", "utilisation", "mean wait"), rows)


def _cells(use: Use) -> list[str]:
    wait = "" if use.mean_wait_s is None else lines.duration(use.mean_wait_s)
    times = [lines.duration(seconds) for seconds in (use.busy_s, use.idle_s, use.preparing_s)]
    return [right(cell) for cell in (use.runs, *times, lines.share(use.utilisation), wait)]


def _devices(used: Usage) -> list[str]:
    """Return the GPUs that each slot's runs had."""
    found: list[dict[str, None]] = [{} for _ in used.slots]
    for run in used.runs:
        found[run.slot] |= {f"GPU {run.device}": None} if run.device else {}
    return [", ".join(names) for names in found]


def timeline(used: Usage) -> str:
    """Return a row a slot and a bar a run, over the time in which a session was on or a run busy."""
    on = used.on
    left = ROLE_LEFT if any(slot.role for slot in used.slots) else LEFT
    scale = (WIDTH - left - RIGHT) / length(on)

    def x(at: float) -> float:
        return left + scale * length(within(on, [(0.0, at)]))

    bottom = TOP + ROW * len(used.slots)
    last = {run.iteration: run.attempt for run in used.runs}
    shapes = [_band(x(start), x(end), bottom) for start, end in used.preparing]
    shapes += [*_ticks(length(on), left, scale, bottom), *_begins(used, x, bottom)]
    for slot in used.slots:
        label = f"slot {slot.slot}" + (f": {slot.role}" if slot.role else "")
        shapes.append(f'<text x="4" y="{TOP + ROW * slot.slot + 17}">{text(label)}</text>')
        shapes += _bars([run for run in used.runs if run.slot == slot.slot], last, x)
    legend = (
        "Each bar is a run with its iteration's number: green ended well, yellow was lost or run again, red "
        "failed, grey is in flight. Shaded: data were prepared. Time without a session or a run is left out"
        + ("; dashed: a session begins." if len(used.sessions) > 1 else ".")
    )
    return svg("".join(shapes), WIDTH, bottom + 22, "runs in the slots") + f"<p class=dim>{text(legend)}</p>"


def _band(start: float, end: float, bottom: float) -> str:
    return (
        f'<rect class="band" x="{start:.1f}" y="{TOP}" width="{end - start:.1f}" height="{bottom - TOP}">'
        "<title>data were prepared</title></rect>"
    )


def _ticks(seconds: float, left: float, scale: float, bottom: float) -> list[str]:
    day = STEPS_S[-1]
    step = next((s for s in STEPS_S if seconds / s <= 8), day * math.ceil(seconds / 8 / day))
    shapes = []
    for k in range(int(seconds / step) + 1):
        at = left + scale * step * k
        anchor = "middle" if at < WIDTH - 40 else "end"
        shapes.append(
            f'<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>'
            f'<text class="dim" x="{at:.1f}" y="{bottom + 16}" text-anchor="{anchor}">{_short(step * k)}</text>'
        )
    return shapes


def _short(seconds: int) -> str:
    """Return a tick's time in its largest whole unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s" if seconds < 60 else f"{seconds / 60:g} min"


def _begins(used: Usage, x: Callable[[float], float], bottom: float) -> list[str]:
    return [
        f'<line class="mark" stroke-dasharray="5 4" x1="{x(start):.1f}" x2="{x(start):.1f}" y1="{TOP - 8}" '
        f'y2="{bottom}"><title>session {number} begins</title></line>'
        for number, (start, _) in enumerate(used.sessions, start=1)
        if number > 1
    ]


def _bars(runs: list[RunTime], last: dict[int, int], x: Callable[[float], float]) -> list[str]:
    """Return the bars of one slot with the numbers that have room; each bar's title has its own."""
    shapes, free, shown, step = [], 0.0, -1, _number_step(runs)
    for run in runs:
        y = TOP + ROW * run.slot + (ROW - BAR) / 2
        told = f"<title>{text(_title(run))}</title>"
        colour = css_class(run, last[run.iteration])
        spans = run.busy or ((run.start, run.start),)
        for start, end in spans:
            a, b = x(start), x(end)
            shapes.append(
                f'<rect class="bar {colour}" x="{a:.1f}" y="{y:.1f}" width="{max(b - a, 1):.1f}" '
                f'height="{BAR}">{told}</rect>'
            )
        middle, room = (x(spans[0][0]) + x(spans[-1][1])) / 2, DIGIT * len(str(run.iteration)) / 2
        if middle - room >= free and (step == 1 or run.iteration // step > shown):
            shapes.append(f'<text x="{middle:.1f}" y="{y + 13:.1f}" text-anchor="middle">{run.iteration}{told}</text>')
            free, shown = middle + room + 2, run.iteration // step
    return shapes


def _number_step(runs: list[RunTime]) -> int:
    """Return 1 when a slot's bars have room for their numbers, else of how many iterations one number is shown."""
    if not runs:
        return 1
    low, high = min(run.iteration for run in runs), max(run.iteration for run in runs)
    fit = (WIDTH - ROLE_LEFT) / (DIGIT * (len(str(high)) + 1))
    return 1 if len(runs) <= fit else next(s for s in (5, 10, 20, 50, 100, high + 1) if (high - low) / s <= fit)


def css_class(run: RunTime, last: int) -> str:
    """Return the colour class of a run by its outcome; `last` is the iteration's last attempt."""
    if run.outcome is None:
        return "open"
    if run.outcome == "ok":
        return "good"
    return "mid" if run.lost or run.attempt < last else "bad"


def _title(run: RunTime) -> str:
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    how = "in flight" if run.outcome is None else "lost" if run.lost else run.outcome
    where = f", GPU {run.device}" if run.device else ""
    busy = lines.duration(length(run.busy))
    return f"iteration {run.iteration}{attempt}: {how}, {busy}, waited {lines.duration(run.wait_s)}{where}"
