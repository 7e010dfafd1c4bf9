"""A result as its folder holds it, read again: the summary, the facts asked, and every answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from sftbench.analysis.summary import Summary
from sftbench.checkpoints.variants import parse_variant
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json
from sftbench.compare.answered import Answered
from sftbench.compare.result import ASKED, FACTS_ASKED, SUMMARY
from sftbench.scoring.answers import ANSWERS

if TYPE_CHECKING:
    import polars as pl

COMPARISON = "compare"
"""In the folder of a check: its comparison."""


@dataclass(frozen=True)
class Finished:
    """A finished comparison.

    Attributes:
        folder: where it lies.
        summary: its summary.
        rows: the facts asked: columns of `ASKED`.
        answered: every variant with its answers, those that show noise last.
    """

    folder: Path
    summary: Summary
    rows: pl.DataFrame
    answered: tuple[Answered, ...]

    def variant(self, name: str) -> Answered:
        """Return a variant by its name or slug.

        Raises:
            SftbenchError: there is no such variant here; the message names those that are.
        """
        wanted = parse_variant(name)
        for one in self.answered:
            if one.variant == wanted:
                return one
        names = ", ".join(one.variant.name for one in self.answered)
        raise SftbenchError(f"has no variant {wanted.name}; it has {names}", where=self.folder)


def read_result(folder: Path) -> Finished:
    """Read a result; its answers must be to the facts that it says were asked.

    Raises:
        SftbenchError: the folder holds no whole result of this version, or its files do not fit.
    """
    if not (folder / SUMMARY).is_file():
        raise SftbenchError(
            f"there is no {SUMMARY}, so this is no result of a comparison",
            where=folder,
            remedy="Name the folder that `sftbench compare -o` wrote; a run that was stopped must "
            "be finished first.",
        )
    try:
        summary = Summary.model_validate(read_json(folder / SUMMARY))
    except ValidationError as error:
        first = error.errors()[0]
        raise SftbenchError(
            f"is not the summary of a comparison of this version "
            f"({'.'.join(map(str, first['loc']))}: {first['msg']})",
            where=folder / SUMMARY,
        ) from None
    if not (folder / FACTS_ASKED).is_file():
        raise SftbenchError(
            f"there is no {FACTS_ASKED}, which tells the facts that were asked",
            where=folder,
            remedy="Run the command of this result again: it asks no model and writes the file.",
        )
    rows, _ = ASKED.read(folder / FACTS_ASKED)
    return Finished(folder, summary, rows, tuple(_answers(folder, summary, rows)))


def _answers(folder: Path, summary: Summary, rows: pl.DataFrame) -> list[Answered]:
    answered = []
    for one in summary.every:
        path = folder / answers_file(one.slug)
        frame, record = ANSWERS.read(path)
        if set(frame["fact_id"]) != set(rows["fact_id"]):
            raise SftbenchError(f"does not answer the facts in {FACTS_ASKED}", where=path)
        tasks = [task.model_dump(mode="json") for task in one.tasks]
        answered.append(Answered(parse_variant(one.name), frame, {**record, "tasks": tasks}))
    return answered


def answers_file(slug: str) -> str:
    """Return where the answers of a variant lie in the folder of a result."""
    return f"answers/{slug}.parquet"
