"""`sftbench demo`: the whole way on a real model, from one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL = "sftbench-demo/smollm2-tuned"
"""What the fine-tune is called on the demo's own leaderboard."""


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
    site = _leaderboard(output)
    minutes = (time.monotonic() - began) / 60
    console.print(f"Done in {minutes:.1f} minutes.", highlight=False)
    for label, path in (
        ("The report", output / "compare" / REPORT),
        ("The numbers", output / "compare" / SUMMARY),
        ("As a leaderboard", site),
    ):
        console.print(f"{label}: {path.resolve()}", soft_wrap=True, highlight=False)


def _leaderboard(output: Path) -> Path:
    """Submit what was compared to a results folder, build its site and return the first page."""
    from sftbench_leaderboard.board import Board
    from sftbench_leaderboard.from_compare import drafts_of
    from sftbench_leaderboard.known import Known
    from sftbench_leaderboard.named import Names
    from sftbench_leaderboard.site.build import build
    from sftbench_leaderboard.submit import submit

    from sftbench.compare.finished import read_result

    known = Known()
    drafts = drafts_of(read_result(output / "compare"), Names(model=MODEL), ["all"])
    submitted = submit(drafts, output / "leaderboard" / "results", known)
    site = output / "leaderboard" / "site"
    build(Board.of((one.path, one.record) for one in submitted), [], site, known)
    return site / "index.html"
