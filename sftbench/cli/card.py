"""`sftbench card`: what a mastery card says, held against fresh draws or against another model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sftbench.facts.table import FactSet
    from sftbench.mastery.card import MasteryCard

app = typer.Typer(
    help="Mastery cards: what chance does to their levels, and mastery before and after.",
    no_args_is_help=True,
)

Facts = Annotated[
    str | None, typer.Option(help="The card's fact table; default: one that ships or was made.")
]
Json = Annotated[
    Path | None, typer.Option("--output", "-o", help="Also write the figures to this JSON file.")
]


@app.command()
def noise(
    card: Annotated[Path, typer.Argument(help="A mastery card.")],
    facts: Facts = None,
    output: Json = None,
) -> None:
    """Level a model by half of its draws and measure it in the other: what chance alone shows."""
    from sftbench.mastery.card import MasteryCard

    _show(MasteryCard.read(card), None, facts, output)


@app.command()
def change(
    base: Annotated[Path, typer.Argument(help="The base's mastery card.")],
    tuned: Annotated[Path, typer.Argument(help="The tuned model's card of the same facts.")],
    facts: Facts = None,
    output: Json = None,
) -> None:
    """Mastery before and after a fine-tune, corrected for what chance alone shows."""
    from sftbench.mastery.card import MasteryCard

    _show(MasteryCard.read(base), MasteryCard.read(tuned), facts, output)


def _show(
    base: MasteryCard, tuned: MasteryCard | None, facts: str | None, output: Path | None
) -> None:
    from rich.console import Console

    from sftbench.common.files import require_free_file, write_json
    from sftbench.compare.cards import mastery_of_cards
    from sftbench.report.across import mastery_sentence, mastery_table

    if output is not None:
        require_free_file(output)
    found = mastery_of_cards(_facts(base, facts), base, tuned)
    console = Console()
    console.print(mastery_table(found))
    console.print()
    console.print(mastery_sentence(found), style="dim", highlight=False)
    if output is not None:
        write_json(output, found.model_dump(mode="json"))


def _facts(card: MasteryCard, facts: str | None) -> FactSet:
    from sftbench.compare.levels import facts_of
    from sftbench.facts.reference import resolve_facts

    return facts_of(card) if facts is None else resolve_facts(facts)
