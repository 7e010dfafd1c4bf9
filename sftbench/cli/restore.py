"""`sftbench restore`: write a tuned model with the top of its update set back to the base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from sftbench.checkpoints.restored_folders import RestoreResult


def restore(
    tuned: Annotated[
        str,
        typer.Option(
            "--tuned",
            "-t",
            help="The model after the fine-tune: a folder, org/name@revision, or an adapter.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The checkpoint to write for one percentage; for several, the folder that "
            "holds one checkpoint each.",
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            "-b",
            help="The model before the fine-tune; else the one that the tuned model's files name.",
        ),
    ] = None,
    percent: Annotated[
        str, typer.Option("--percent", "-p", help="Shares of the weights to restore, in percent.")
    ] = "1,5,20",
    arithmetic: Annotated[
        str, typer.Option("--arithmetic", help="Number format of the ranking: fp32 or bf16.")
    ] = "fp32",
) -> None:
    """Set the scalars that changed most, relative to their size, back to the base.

    The way of Ye et al. (2025): one ranking by |s - p| / (|p| + 1e-8) over all blocks, norms left
    out; the top k % take the base's value again.
    """
    from sftbench.checkpoints.pair import find_pair
    from sftbench.checkpoints.restored_folders import restore_folders
    from sftbench.checkpoints.variants import parse_arithmetic, parse_percents
    from sftbench.common.progress import progress

    percents, how = parse_percents(percent), parse_arithmetic(arithmetic)
    pair = find_pair(tuned, base)
    for note in pair.notes:
        typer.echo(note)
    with progress("Restoring", 1 + len(percents), unit="steps") as advance:
        result = restore_folders(pair.base, pair.tuned, percents, how, output, advance=advance)
    _show(result)


def _show(result: RestoreResult) -> None:
    """Print what each restore did, and what to be wary of."""
    from rich.console import Console

    console = Console()
    console.print(_table(result))
    texts: dict[str, list[str]] = {}
    for folder in result.folders:
        for text in folder.report.warnings():
            texts.setdefault(text, []).append(folder.variant.name)
    for text in result.warnings:
        _print(console, f"Warning: {text}")
    for text, names in texts.items():
        of = "" if len(names) == len(result.folders) > 1 else f"{', '.join(names)}: "
        _print(console, f"Warning: {of}{text}")
    for folder in result.folders:
        _print(console, f"{folder.variant.name} -> {folder.path}")


def _table(result: RestoreResult) -> Table:
    from rich.table import Table

    from sftbench.checkpoints.variants import percent_text

    reports = [folder.report for folder in result.folders]
    first = reports[0]
    table = Table(
        "share of the scalars restored",
        title=f"{first.region:,} scalars ranked in {first.arithmetic}",
    )
    for folder in result.folders:
        table.add_column(f"{percent_text(folder.variant.percent)} %", justify="right")
    rows = {
        "scalars restored": [f"{r.count:,}" for r in reports],
        "  of which really changed": [f"{r.changed:,}" for r in reports],
        "smallest relative change restored": [_number(r.threshold) for r in reports],
        "summed relative change removed": [f"{r.change_share:.1%}" for r in reports],
        "  without those that are 0 in the base": [
            f"{r.change_share_without_zero_base:.1%}" for r in reports
        ],
        "update removed (L1 norm)": [f"{r.l1_removed:.1%}" for r in reports],
        "update removed (L2 norm)": [f"{r.l2_removed:.1%}" for r in reports],
        "scalars that are 0 in the base": [f"{r.zero_base:,}" for r in reports],
        "  of which restored": [f"{r.zero_base_restored:,}" for r in reports],
        "scalars unchanged by the fine-tune": [f"{r.unchanged:,}" for r in reports],
    }
    for label, values in rows.items():
        table.add_row(label, *values)
    return table


def _print(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
