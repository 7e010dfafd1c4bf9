"""`sftbench model`: where a model that is known by a short name lies on disk."""

from __future__ import annotations

from typing import Annotated

import typer


def model(
    name: Annotated[str, typer.Argument(help="smollm2, lab, or a local folder.", metavar="NAME")],
) -> None:
    """Print the folder of a model, converting it first if need be.

    Nothing else is printed, so that `pretrained=$(sftbench model smollm2)` works.
    """
    from sftbench.checkpoints.reference import resolve

    typer.echo(resolve(name))
