"""A gate on the terminal: the verdict, a table of endpoints, the lost facts that tell most."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sftbench.report import gate_words as say
from sftbench.report.words import MINUS, clip, points, signed, signed_bracket

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sftbench.analysis.gate import GateResult

SHOWN = 10
"""Lost facts that the terminal shows."""
COLOURS = {
    "superior": "green",
    "non_inferior": "green",
    "inconclusive": "yellow",
    "inferior": "red",
}


def print_gate(console: Console, result: GateResult) -> None:
    """Print a gate's result."""
    console.print(say.sides_sentence(result), highlight=False, markup=False)
    console.print(_endpoints(result))
    if result.lost:
        console.print(_lost(result))
    for place, line in enumerate(say.sentences(result)):
        style = f"bold {COLOURS[result.verdict]}" if not place else None
        console.print(line, style=style, highlight=False, markup=False)
    for note in result.notes:
        console.print(f"Note: {note}", style="dim", highlight=False, markup=False)


def _endpoints(result: GateResult) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("endpoint", no_wrap=True)
    for name in ("facts", "%", "points", "changed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one in say.in_groups(result):
        table.add_row(
            one.endpoint if one.level is None or one.primary else f"  level {one.level}",
            f"{one.n:,}",
            f"{points(one.baseline)}→{points(one.candidate)}",
            f"{signed(one.difference)} {signed_bracket(one, 0)}",
            f"{MINUS if one.lost else ''}{one.lost:,} {'+' if one.gained else ''}{one.gained:,}",
            f"[{COLOURS[one.verdict]}]{say.NAMES[one.verdict]}[/]",
            style="bold" if one.primary else None,
        )
    table.caption = (
        f"%: baseline→candidate; points: the difference, {1 - 2 * result.terms.alpha:.0%} "
        "interval; changed: facts\nlost and gained. Bold decides; of all others the verdicts are "
        "adjusted by Holm,\nthe intervals are not."
    )
    table.caption_justify = "left"
    return table


def _lost(result: GateResult) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    shown = result.lost[:SHOWN]
    table = Table(
        title=f"Lost facts ({len(shown)} of {len(result.lost):,})",
        box=SIMPLE_HEAD,
        pad_edge=False,
        title_justify="left",
        title_style="bold",
    )
    for name in ("question", "answer", "candidate said"):
        table.add_column(name)
    for name in ("level", "baseline", "candidate"):
        table.add_column(name, justify="right")
    runs = len(result.baseline.runs), len(result.candidate.runs)
    for one in shown:
        table.add_row(
            escape(clip(one.question).shown),
            escape(clip(one.answer).shown),
            escape(clip(one.said).shown or "(nothing)"),
            str(one.level),
            *(
                f"{round(rate * count)}/{count}"
                for rate, count in zip((one.before, one.after), runs, strict=True)
            ),
        )
    return table
