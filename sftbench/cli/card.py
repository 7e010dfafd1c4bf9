"""`sftbench card`: what a mastery card says, beside others and other models; sharing cards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sftbench.facts.table import FactSet
    from sftbench.mastery.card import MasteryCard

app = typer.Typer(
    help="Mastery cards: what they say, how two agree, what chance does to them; sharing them.",
    no_args_is_help=True,
)

Facts = Annotated[
    str | None, typer.Option(help="The card's fact table; default: one that ships or was made.")
]
Json = Annotated[
    Path | None, typer.Option("--output", "-o", help="Also write the figures to this JSON file.")
]
STORE = "A folder, an fsspec address (s3://...), or datasets/ORG/NAME on the hub."


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


@app.command()
def show(
    card: Annotated[Path, typer.Argument(help="A mastery card.")], facts: Facts = None
) -> None:
    """Say what a card is of, how it was made, and how many facts each level holds."""
    from sftbench.mastery.canonical import is_canonical
    from sftbench.mastery.card import MasteryCard
    from sftbench.report.cards import print_card, print_record

    read = MasteryCard.read(card)
    table = _facts(read, facts)
    read.require(facts=table)
    print_record(read.record, canonical=is_canonical(read))
    print_card(read.record, read.frame, table.frame, card)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(help="A mastery card.")],
    second: Annotated[Path, typer.Argument(help="Another card of the same base and facts.")],
    output: Json = None,
) -> None:
    """Say how far two cards of the same base agree: levels, weighted kappa, bias by level."""
    from sftbench.common.files import require_free_file, write_json
    from sftbench.compare.cards import agreement_of_cards
    from sftbench.mastery.card import MasteryCard
    from sftbench.report.cards import print_agreement

    if output is not None:
        require_free_file(output)
    one, other = MasteryCard.read(first), MasteryCard.read(second)
    found = agreement_of_cards(one, other)
    print_agreement(found, one.estimator, other.estimator)
    if output is not None:
        write_json(output, found.model_dump(mode="json"))


@app.command()
def push(
    card: Annotated[Path, typer.Argument(help="A mastery card.")],
    store: Annotated[str, typer.Argument(help=STORE)],
) -> None:
    """Put a card where others find it; it lies under the digests of its base and facts."""
    from rich.console import Console

    from sftbench.mastery.canonical import is_canonical
    from sftbench.mastery.card import MasteryCard
    from sftbench.mastery.share import push
    from sftbench.mastery.store import open_store

    read = MasteryCard.read(card)
    pushed = push(read, open_store(store), where=store)
    console = Console()
    if not is_canonical(read):
        console.print(
            "Not a canonical card: others get it where it is the only one, or by its digest.",
            style="dim",
        )
    there = " (was there already)" if pushed.there else ""
    console.print(f"{store}: {pushed.name}{there}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def pull(
    store: Annotated[str, typer.Argument(help=STORE)],
    model: Annotated[str, typer.Option(help="Base model: a folder, smollm2 or lab.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The card's file.")],
    facts: Annotated[str, typer.Option(help="Fact table, or geography, or lab.")] = "geography",
    digest: Annotated[
        str | None, typer.Option(help="The wanted card's digest, or its first characters.")
    ] = None,
) -> None:
    """Get the card of a base and a fact set, checked against its own digest."""
    from sftbench.checkpoints.digest import checkpoint_digest
    from sftbench.checkpoints.reference import resolve
    from sftbench.common.files import require_free_file
    from sftbench.facts.reference import resolve_facts
    from sftbench.mastery.share import pull
    from sftbench.mastery.store import open_store
    from sftbench.report.cards import print_card

    require_free_file(output)
    table = resolve_facts(facts)
    card = pull(
        open_store(store),
        where=store,
        model_digest=checkpoint_digest(resolve(model)),
        facts_digest=table.digest,
        digest=digest,
    )
    card.write(output)
    print_card(card.record, card.frame, table.frame, output)


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
