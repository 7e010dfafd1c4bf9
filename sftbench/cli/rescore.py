"""`sftbench rescore`: score a result again without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


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
        Path | None, typer.Option(help="Another mastery card of the same base: other levels.")
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
    from sftbench.mastery.card import MasteryCard

    out = output or result.with_name(f"{result.resolve().name}-rescored")
    how = Rescoring(
        matching=matching,
        card=None if mastery is None else MasteryCard.read(mastery),
        facts=None if facts is None else resolve_facts(facts),
    )
    compared = rescore_result(result, out, how, shlex.join(["sftbench", *sys.argv[1:]]))
    show_result(compared.summary, out)
