"""`sftbench pair` and `sftbench seeds`: finished comparisons against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[
    Path | None, typer.Option("--output", "-o", help="Also write the figures to this JSON file.")
]


def pair(
    first: Annotated[
        str, typer.Argument(help="Folder of a comparison, or FOLDER:VARIANT; default: tuned.")
    ],
    second: Annotated[str, typer.Argument(help="The same; differences are second minus first.")],
    output: Json = None,
) -> None:
    """Is the difference of two variants real? Any two that answered the same facts, asked alike."""
    from rich.console import Console

    from sftbench.common.files import require_free_file, write_json
    from sftbench.compare.across import compare_variants, find_variant
    from sftbench.report.across import PAIR_LEGEND, pair_tables

    if output is not None:
        require_free_file(output)
    found = compare_variants(find_variant(first), find_variant(second))
    console = Console()
    for name, ref in (("First", found.first), ("Second", found.second)):
        console.print(f"{name}: {ref}", highlight=False, markup=False, soft_wrap=True)
    for table in pair_tables(found):
        console.print()
        console.print(table)
    console.print()
    console.print(PAIR_LEGEND, style="dim", highlight=False)
    for note in found.notes:
        console.print(f"Note: {note}", highlight=False, markup=False)
    if output is not None:
        write_json(output, found.model_dump(mode="json"))


def seeds(
    results: Annotated[
        list[str],
        typer.Argument(help="Comparisons of one recipe's runs: FOLDER or FOLDER:VARIANT each."),
    ],
    output: Json = None,
) -> None:
    """How much do runs of one recipe vary, and what does the recipe do on average?"""
    from rich.console import Console

    from sftbench.analysis.summary import DOMAIN_NAMES
    from sftbench.common.files import require_free_file, write_json
    from sftbench.compare.across import find_variant
    from sftbench.compare.over_seeds import seeds_result
    from sftbench.report.across import RUNS_LEGEND, runs_table

    if output is not None:
        require_free_file(output)
    found = seeds_result([find_variant(one) for one in results])
    console = Console()
    for one in found.domains:
        rows = [] if one.retention is None else [("retention", one.retention, False)]
        rows += [("accuracy", one.macro, False), ("change", one.change, True)]
        console.print()
        console.print(runs_table(f"{len(found.runs)} runs, {DOMAIN_NAMES[one.domain]}", rows))
    console.print()
    console.print(RUNS_LEGEND, style="dim", highlight=False)
    for note in found.warnings:
        console.print(f"Note: {note}", highlight=False, markup=False)
    if output is not None:
        write_json(output, found.model_dump(mode="json"))
