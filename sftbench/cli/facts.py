"""`sftbench facts`: write the embedded facts, and look at any fact file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sftbench.facts.table import FactSet

app = typer.Typer(help="Facts: write the embedded ones, look at a fact file.", no_args_is_help=True)


@app.command()
def geography(
    out: Annotated[Path, typer.Option("--output", "-o", help="The fact file to write (Parquet).")],
) -> None:
    """Write the embedded geography facts to a file, and say what is in it."""
    from sftbench.common.files import require_free_file
    from sftbench.facts.geography import load_geography

    require_free_file(out)
    facts = load_geography()
    facts.write(out)
    _print_summary(facts)
    typer.echo(f"Wrote {out}")


@app.command()
def show(
    path: Annotated[str, typer.Argument(help="A fact file (Parquet), or geography, or lab.")],
    examples: Annotated[int, typer.Option(help="Examples to show of each relation.")] = 2,
) -> None:
    """Say what is in a fact file: counts, flags, source, and a few examples."""
    from sftbench.facts.reference import resolve_facts

    facts = resolve_facts(path)
    _print_summary(facts)
    _print_examples(facts, examples)


def _print_summary(facts: FactSet) -> None:
    """Print counts by relation, domain and split, the flags, the source and the digests."""
    from rich.console import Console
    from rich.table import Table

    from sftbench.facts.summary import flag_counts, relation_counts

    counts = Table("relation", "domain", title=f"Facts: {facts.name}")
    for heading in ("train", "scored in train", "test", "scored in test"):
        counts.add_column(heading, justify="right")
    for row in relation_counts(facts).iter_rows():
        counts.add_row(*map(str, row), end_section=row[0] == "all")
    flags = Table("flag", title="Flags")
    for heading in ("train", "test"):
        flags.add_column(heading, justify="right")
    for row in flag_counts(facts).iter_rows():
        flags.add_row(*map(str, row))
    console = Console()
    console.print(counts, flags)
    for name, value in facts.source.items():
        console.print(f"{name}: {value}", markup=False, highlight=False)
    console.print(f"facts digest: {facts.digest}", highlight=False)
    console.print(f"templates digest: {facts.templates_digest}", highlight=False)


def _print_examples(facts: FactSet, number: int) -> None:
    """Print the first facts of each relation with their answers."""
    from rich.console import Console
    from rich.table import Table

    table = Table("relation", "split", "question", "answers", title="Examples")
    for (relation,), rows in facts.frame.group_by("relation", maintain_order=True):
        for row in rows.head(number).iter_rows(named=True):
            answers = " | ".join(row["answers"])
            table.add_row(str(relation), row["split"], row["question"], answers)
    if number > 0:
        Console().print(table)
