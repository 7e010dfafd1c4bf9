"""`sftbench rescore`: score a result again without a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from sftbench.facts.table import FactSet
    from sftbench.mastery.card import MasteryCard


def rescore(
    result: Annotated[Path, typer.Argument(help="Folder of a comparison.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to make (default: RESULT-rescored)."),
    ] = None,
    matching: Annotated[
        Literal["words", "strict-paper"] | None,
        typer.Option(help="At word boundaries, or the paper's plain substring."),
    ] = None,
    mastery: Annotated[
        str | None,
        typer.Option(help="Another mastery card of the same base, or canonical: other levels."),
    ] = None,
    facts: Annotated[
        str | None, typer.Option(help="A fact table with other aliases of the same facts.")
    ] = None,
) -> None:
    """Score a result again without a model: other matching, levels or aliases."""
    import shlex
    import sys

    from sftbench.cli.compare import show_result
    from sftbench.compare.rescored import Rescoring, rescore_result
    from sftbench.facts.reference import resolve_facts

    table = None if facts is None else resolve_facts(facts)
    out = output or result.with_name(f"{result.resolve().name}-rescored")
    how = Rescoring(
        matching=matching,
        card=None if mastery is None else _card(mastery, result, table),
        facts=table,
    )
    compared = rescore_result(result, out, how, shlex.join(["sftbench", *sys.argv[1:]]))
    show_result(compared.summary, out)


def _card(mastery: str, result: Path, facts: FactSet | None) -> MasteryCard:
    """Return the card that was named; "canonical" is that of the result's base and facts."""
    from sftbench.compare.finished import read_result
    from sftbench.mastery.bundled import CANONICAL, find_card, none_ships
    from sftbench.mastery.card import MasteryCard

    if mastery != CANONICAL:
        return MasteryCard.read(Path(mastery))
    run = read_result(result).summary.run
    digest = run.facts.digest if facts is None else facts.digest
    found = find_card(base_digest=run.base.digest, facts_digest=digest, canonical=True)
    if found is None:
        raise none_ships(run.base.digest, facts, canonical=True)
    return found
