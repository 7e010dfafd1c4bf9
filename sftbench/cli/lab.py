"""`sftbench lab`: build the invented world and its model, and show what a lab holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sftbench.lab.build import Lab

app = typer.Typer(
    help="A small invented world and a tiny model that truly knows some of it.",
    no_args_is_help=True,
)


@app.command()
def build(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")],
    size: Annotated[str, typer.Option(help="test (minutes) or study (larger).")] = "test",
) -> None:
    """Train a lab from scratch: facts, text, tokenizer, model and mastery card."""
    from sftbench.lab.build import build_lab
    from sftbench.lab.sizes import size_named

    _print(build_lab(size_named(size), output))


@app.command()
def show(
    path: Annotated[
        Path | None, typer.Argument(help="A built lab; the one that ships if left out.")
    ] = None,
) -> None:
    """Say what is in a lab: its model, and how many facts each mastery level holds."""
    from sftbench.lab.build import read_lab, shipped_lab

    _print(read_lab(path or shipped_lab()))


def _print(lab: Lab) -> None:
    """Print the lab's facts by domain, split and level, how it was made, and what it lacks."""
    from rich.console import Console
    from rich.table import Table

    from sftbench.lab.build import level_table, shortfalls

    table = Table("domain", "split", title="Facts by mastery level")
    for level in range(5):
        table.add_column(str(level), justify="right")
    kinds = level_table(lab.facts, lab.card).group_by("domain", "split", maintain_order=True)
    for (domain, split), rows in kinds:
        table.add_row(str(domain), str(split), *map(str, rows["facts"]))
    console = Console()
    console.print(table)
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in lab.record["seconds"].items())
    for line in (
        f"size: {lab.record['size']['name']}, {lab.record['parameters']:,} parameters, "
        f"{lab.record['statements']:,} statements and {lab.record['questions']:,} questions",
        f"model digest: {lab.record['model_digest']}",
        f"facts digest: {lab.facts.digest}",
        f"built in: {seconds}",
        f"folder: {lab.path}",
        *(f"Note: {sentence}." for sentence in shortfalls(lab)),
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
