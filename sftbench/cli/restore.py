"""`sftbench restore`: plan what a restore would do, or write restored checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sftbench.cli.rule_options import (
    ArithmeticOption,
    CriterionOption,
    PerTensorOption,
    RegionOption,
    all_rules,
)

if TYPE_CHECKING:
    from rich.console import Console

    from sftbench.checkpoints.restored_folders import Planning
    from sftbench.checkpoints.rules import Restored

app = typer.Typer(
    name="restore",
    help="Take part of a fine-tune's update back: see what that would do, or write it.",
    no_args_is_help=True,
)

DEFAULT_SIZES = "1,5,20"

Tuned = Annotated[
    str,
    typer.Option(
        "--tuned", "-t",
        help="The model after the fine-tune: a folder, org/name@revision, or an adapter.",
    ),
]  # fmt: skip
Base = Annotated[
    str | None,
    typer.Option(
        "--base", "-b",
        help="The model before the fine-tune; else the one that the tuned model's files name.",
    ),
]  # fmt: skip
Percent = Annotated[
    str | None,
    typer.Option(
        "--percent", "-p",
        help=f"How much: 1,5,20 (% of the scalars), 5%changed, 20%norm [{DEFAULT_SIZES}].",
    ),
]  # fmt: skip
Rule = Annotated[
    list[str] | None,
    typer.Option("--rule", "-r", help="A rule in full, such as absolute,20%norm,mlp; repeatable."),
]


@app.command("plan")
def plan(
    tuned: Tuned,
    base: Base = None,
    percent: Percent = None,
    criterion: CriterionOption = "relative",
    rule: Rule = None,
    arithmetic: ArithmeticOption = "fp32",
    per_tensor: PerTensorOption = False,
    region: RegionOption = "blocks",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the plan to this JSON file.")
    ] = None,
) -> None:
    """Say exactly what each restore would take back, without writing any.

    Memory does not grow with the model.
    """
    from rich.console import Console

    from sftbench.common.files import require_free_file, write_json

    if output is not None:
        require_free_file(output)
    sizes = percent or (None if rule else DEFAULT_SIZES)
    rules = all_rules(rule, sizes, criterion, arithmetic, per_tensor=per_tensor, region=region)
    planning = _plan(tuned, base, rules)
    console = Console()
    show_plan(planning, console)
    if output is not None:
        write_json(output, planning.record())
        console.print(f"\n{output}", soft_wrap=True, highlight=False, markup=False)


@app.command("apply")
def apply(
    tuned: Tuned,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The checkpoint to write for one rule; for several, the folder that holds one "
            "checkpoint each.",
        ),
    ],
    base: Base = None,
    percent: Percent = None,
    criterion: CriterionOption = "relative",
    rule: Rule = None,
    arithmetic: ArithmeticOption = "fp32",
    per_tensor: PerTensorOption = False,
    region: RegionOption = "blocks",
) -> None:
    """Write restored models as Hugging Face checkpoints.

    By default the way of Ye et al. (2025): one ranking by |s - p| / (|p| + 1e-8) over all blocks,
    norms left out; the top k % take the base's value again. If it was stopped, run it again: what
    is written already is left as it is.
    """
    from rich.console import Console

    from sftbench.checkpoints.restored_folders import planned_outputs, write_restored
    from sftbench.common.progress import progress

    sizes = percent or (None if rule else DEFAULT_SIZES)
    rules = all_rules(rule, sizes, criterion, arithmetic, per_tensor=per_tensor, region=region)
    paths = planned_outputs(rules, output)
    planning = _plan(tuned, base, rules)
    console = Console()
    show_plan(planning, console)
    console.print()
    with progress("Writing", len(paths), unit="checkpoints") as advance:
        there = write_restored(planning, paths, advance=advance)
    for one, path in zip(planning.planned, paths, strict=True):
        before = " (was there already)" if path in there else ""
        _print(console, f"{one.rule.name} -> {path}{before}")


def _plan(tuned: str, base: str | None, rules: Sequence[Restored]) -> Planning:
    from sftbench.checkpoints.pair import find_pair
    from sftbench.checkpoints.planning import count_rankings
    from sftbench.checkpoints.restored_folders import plan_folders
    from sftbench.common.progress import progress

    pair = find_pair(tuned, base, merge=False)
    for note in pair.notes:
        typer.echo(note)
    with progress("Planning", count_rankings(rules), unit="rankings") as advance:
        return plan_folders(pair.base, pair.tuned, rules, advance=advance)


def show_plan(planning: Planning, console: Console) -> None:
    """Print what each rule does, how that spreads, and what to be wary of."""
    from sftbench.cli.restore_tables import plan_table, spread_table

    reports = [one.report for one in planning.planned if one.report is not None]
    console.print(plan_table(reports))
    spread = spread_table(reports)
    if spread is not None:
        console.print()
        console.print(spread)
    texts: dict[str, list[str]] = {}
    for report in reports:
        for text in report.warnings():
            texts.setdefault(text, []).append(report.rule)
    for text in planning.notes:
        _print(console, f"Warning: {text}")
    for text, names in texts.items():
        of = "" if len(names) == len(reports) > 1 else f"{'; '.join(names)}: "
        _print(console, f"Warning: {of}{text}")


def _print(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
