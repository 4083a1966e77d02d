"""The section of report.html about the language model: what turns and iterations cost, refusals, waits."""

from __future__ import annotations

from itertools import accumulate

from orchestrator.core import ledger
from orchestrator.core.ledger import Spent, TurnCost, usd, usd_exact
from orchestrator.core.state import State
from orchestrator.views import costs, lines
from orchestrator.views.report_html import folded, right, table, text
from orchestrator.views.report_svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, axis, svg

NUMBERS = 20
"""Numbers below the curve at most."""
SHOWN = 12
"""Rows above which a table of iterations is folded."""


def section(state: State) -> str:
    """Return the section; a sentence when no model was asked."""
    turns = ledger.turns(state)
    if not turns:
        return "<p class=dim>no language model was asked</p>"
    said = "".join(f"<li>{text(line)}</li>" for line in (f"model: {costs.models(state)}", *costs.summary(state)))
    parts = [f"<ul>{said}</ul>", curve(turns), "<h3>Cost per turn</h3>", _turns(state, turns)]
    parts += ["<h3>Cost per iteration</h3>", _iterations(state, turns), "<h3>Refusals</h3>", _refusals(turns)]
    return "".join([*parts, *_instead(turns), *_waits(state)])


def curve(turns: tuple[TurnCost, ...]) -> str:
    """Return the cost up to each turn as a staircase, a dot a turn."""
    sums = list(accumulate(turn.spent.micro_usd for turn in turns))
    high, first, last = max(sums[-1] / 1e6, 1e-6) * 1.05, turns[0].turn, turns[-1].turn

    def x(turn: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (turn - first + 0.5) / (last - first + 1)

    def y(dollars: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - dollars) / high

    steps = "".join(f"H{x(t.turn):.1f}V{y(micro / 1e6):.1f}" for t, micro in zip(turns, sums, strict=True))
    shapes = [
        *axis(y, 0.0, high, "cost so far in US dollars"),
        f'<path class="mark" stroke-width="1.6" d="M{x(first - 0.5):.1f} {y(0.0):.1f}{steps}H{x(last + 0.5):.1f}"/>',
        *(_dot(turn, micro, x(turn.turn), y(micro / 1e6)) for turn, micro in zip(turns, sums, strict=True)),
        *_numbers(turns, [x(turn.turn) for turn in turns]),
    ]
    legend = (
        "Each dot is a turn: filled when the model's own was taken, × when another scientist took it, hollow while its "
        "conversation is not over."
    )
    return svg("".join(shapes), WIDTH, HEIGHT, "cost so far, by turn") + f"<p class=dim>{legend}</p>"


def _dot(turn: TurnCost, micro: int, x: float, y: float) -> str:
    what = f"turn {turn.turn} ({costs.proposed(turn)}): {turn.spent.usd}, so far {usd(micro)}"
    told = f"<title>{text(what)}</title>"
    if turn.taken is not None and turn.taken.instead:
        return f'<text class="bad" x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">×{told}</text>'
    kind = "open hollow" if turn.taken is None else "good"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5" stroke-width="1.6">{told}</circle>'


def _numbers(turns: tuple[TurnCost, ...], places: list[float]) -> list[str]:
    step = -(-len(turns) // NUMBERS)
    return [
        f'<text class="dim" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{turn.turn}</text>'
        for turn, x in list(zip(turns, places, strict=True))[::step]
    ]


def _turns(state: State, turns: tuple[TurnCost, ...]) -> str:
    head = ("turn", "taken by", "proposes", "replies", "refusals", "tokens in", "out", "cache", "time", "cost")
    rows = [
        [right(t.turn), text(costs.taker(t)), text(costs.proposed(t)), *_figures(t.spent, len(t.refusals))]
        for t in turns
    ]
    every = _figures(ledger.spent(state), sum(len(turn.refusals) for turn in turns))
    shown = table(head, [*rows, [right("all"), "", "", *every]])
    return shown if len(turns) <= SHOWN else folded(lines.counted(len(turns), "turn"), shown)


def _figures(used: Spent, refusals: int) -> list[str]:
    sums = (used.replies, refusals, used.usage.prompt, used.usage.output_tokens)
    last = (lines.share(used.cache_rate), lines.duration(used.seconds), usd_exact(used.micro_usd))
    return [right(cell) for cell in (*sums, *last)]


def _iterations(state: State, turns: tuple[TurnCost, ...]) -> str:
    """Return each iteration's share of its turn, with what belongs to none, and the sum."""
    found, rest = ledger.shares(state)
    rows = []
    for iteration, micro in sorted(found.items()):
        it = state.iterations[iteration]
        rows.append([right(iteration), right(it.turn), right(usd_exact(micro))])
    if rest:
        others = ", ".join(str(turn.turn) for turn in turns if not turn.iterations and turn.spent.micro_usd)
        rows.append([right("none"), right(others), right(usd_exact(rest))])
    total = [right("all"), right(""), right(usd_exact(sum(found.values()) + rest))]
    shown = table(("iteration", "turn", "share of the turn's cost"), [*rows, total])
    told = (
        "<p class=dim>A turn's cost is shared equally by the iterations that it proposes. Turns that propose none (a "
        "block's end, a look at the last runs) and a conversation that is not over stand under none.</p>"
    )
    if len(rows) > SHOWN:
        shown = folded(f"{lines.counted(len(found), 'iteration')}, {usd(ledger.spent(state).micro_usd)}", shown)
    return shown + told


def _refusals(turns: tuple[TurnCost, ...]) -> str:
    rows = [[right(turn.turn), text(reason)] for turn in turns for reason in turn.refusals]
    if not rows:
        return "<p class=dim>nothing was refused</p>"
    return folded(f"{lines.counted(len(rows), 'refusal')}, with reasons", table(("turn", "reason"), rows))


def _instead(turns: tuple[TurnCost, ...]) -> list[str]:
    rows = [
        [right(turn.turn), text(turn.taken.scientist), text(costs.proposed(turn)), text(turn.taken.instead)]
        for turn in turns
        if turn.taken is not None and turn.taken.instead
    ]
    head = ("turn", "taken by", "iterations", "why")
    return ["<h3>Turns that another scientist took</h3>", table(head, rows)] if rows else []


def _waits(state: State) -> list[str]:
    """Return the pauses and the requests that were lost, with their sentences."""
    rows = []
    for number, call in sorted(state.calls.items()):
        told = (right(number), right(call.reserved.turn))
        if call.wait is not None:
            rows.append([*told, right(lines.duration(call.wait.seconds)), text(call.wait.sentence)])
        if call.settled is not None and call.settled.outcome == "lost":
            rows.append([*told, right(""), text(call.settled.sentence)])
    head = ("request", "turn", "waited", "why")
    return ["<h3>Waits and lost requests</h3>", table(head, rows)] if rows else []
