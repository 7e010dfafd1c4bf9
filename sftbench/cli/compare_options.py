"""What the commands that compare two models share: their options, and the request made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sftbench.compare.request import Request
    from sftbench.compare.run import Notify

OutputFolder = Annotated[
    Path, typer.Option("--output", "-o", help="Folder of the result; resumed if it is there.")
]
BaseModel = Annotated[
    str | None,
    typer.Option(help="Base: a folder, a hub id, smollm2 or lab; default: what tuned names."),
]
FactsTable = Annotated[str, typer.Option(help="Fact table, or geography, or lab.")]
Mastery = Annotated[
    str | None,
    typer.Option(help="Mastery card of the base, or canonical; default: the one that ships."),
]
Rules = Annotated[
    list[str] | None,
    typer.Option(help="A restore in full, such as absolute,20%norm,mlp; repeatable."),
]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Prompts in one batch (default: hf: 16, vllm: 256).")
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Ask so many facts, balanced over level and domain.")
]
Domain = Annotated[str | None, typer.Option(help="Only in or out.")]


def request_of(
    tuned: str,
    base: str | None,
    facts: str,
    mastery: str | None,
    output: Path,
    revisions: tuple[str | None, str | None] = (None, None),
    **more: Any,
) -> Request:
    """Return the request of a command line, its models, facts and card found and checked.

    Args:
        tuned: as the user named it; as are base, facts and mastery.
        base: None for what the tuned model names.
        facts: the fact table.
        mastery: None for the card that ships.
        output: folder of the result.
        revisions: of base and tuned model on the hub.
        more: further fields of `Request`.

    Raises:
        SftbenchError: one of them cannot be found, or they do not belong together.
    """
    import shlex
    import sys

    from sftbench.checkpoints.folder import open_checkpoint
    from sftbench.checkpoints.pair import find_pair
    from sftbench.compare.request import Request
    from sftbench.facts.reference import resolve_facts
    from sftbench.mastery.bundled import resolve_card

    table = resolve_facts(facts)
    models = find_pair(tuned, base, tuned_revision=revisions[1], base_revision=revisions[0])
    digest = open_checkpoint(models.base).digest
    return Request(
        base=models.base,
        tuned=models.tuned,
        out=output,
        facts=table,
        card=resolve_card(mastery, base_digest=digest, facts=table),
        notes=models.notes,
        base_name=models.base_name,
        tuned_name=models.tuned_name,
        command=shlex.join(["sftbench", *sys.argv[1:]]),
        **more,
    )


def note_aside() -> Notify:
    """Return what prints a warning on standard error."""
    from rich.console import Console
    from rich.markup import escape

    aside = Console(stderr=True, highlight=False)
    return lambda warning: aside.print(f"[yellow]Note:[/] {escape(warning)}")


def require_known(flag: str, value: str | None, known: tuple[str, ...]) -> None:
    """Raise `SftbenchError` unless the value of a flag is one of those known, or not given."""
    from sftbench.common.errors import SftbenchError

    if value is not None and value not in known:
        raise SftbenchError(f"{flag} {value} is not known", remedy=f"Use {' or '.join(known)}.")
