"""`sftbench demo`: the whole way on a real model, from one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of everything; resumed if it is there.")
    ] = Path("out/demo"),
) -> None:
    """Fine-tune SmolLM2, restore it and compare: under ten minutes on two cores."""
    import time

    from rich.console import Console

    from sftbench.compare.demo import run_demo
    from sftbench.compare.run import REPORT, SUMMARY
    from sftbench.report.terminal import show

    began = time.monotonic()
    console = Console()
    aside = Console(stderr=True, highlight=False, soft_wrap=True)
    compared = run_demo(output, aside.print)
    show(compared.summary, console)
    minutes = (time.monotonic() - began) / 60
    console.print(f"Done in {minutes:.1f} minutes.", highlight=False)
    for label, name in (("The report", REPORT), ("The numbers", SUMMARY)):
        path = (output / "compare" / name).resolve()
        console.print(f"{label}: {path}", soft_wrap=True, highlight=False)
