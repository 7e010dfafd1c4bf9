"""`sftbench model`: where a model lies on disk, fetched, converted or merged first if need be."""

from __future__ import annotations

from typing import Annotated

import typer


def model(
    name: Annotated[
        str,
        typer.Argument(
            help="smollm2, lab, a local folder, or a model of the hub (org/name, "
            "org/name@revision); an adapter as well.",
            metavar="NAME",
        ),
    ],
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option("--base", "-b", help="The base of an adapter; else the one that it names."),
    ] = None,
) -> None:
    """Print the folder of a model: downloaded, converted or merged into its base if need be.

    Nothing else is printed on standard output, so that `pretrained=$(sftbench model smollm2)`
    works; what was decided on the way is said on standard error.
    """
    from sftbench.checkpoints.adapters import is_adapter
    from sftbench.checkpoints.pair import find_pair
    from sftbench.checkpoints.reference import resolve

    path = resolve(name, revision=revision)
    if is_adapter(path):
        pair = find_pair(str(path), base)
        for note in pair.notes:
            typer.echo(note, err=True)
        path = pair.tuned
    typer.echo(path)
