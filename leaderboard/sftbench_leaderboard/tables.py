"""The tables of a board as files: CSV, JSON and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl

from sftbench.common.files import atomic_file, require_free
from sftbench_leaderboard.board import DOMAINS, LEVELS, MODELS, TASKS, Board

FORMULA = r"\A[=+\-@\t\r]"
"""How a text begins that a spreadsheet would compute; in CSV such a text has a quote before it."""


class Table(NamedTuple):
    """A table that was written: its name, what a row is, and how many there are."""

    name: str
    row: str
    rows: int


def write_tables(board: Board, folder: Path) -> list[Table]:
    """Write the tables of a board into a folder, which is made; return them.

    Raises:
        SftbenchError: a file lies there.
    """
    require_free(folder, overwrite=True)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, spec, frame, row in (
        ("models", MODELS, board.models, "a record: a variant of a model on a fact set"),
        ("domains", DOMAINS, board.domains, "a record in a domain: rank, retention, gains"),
        ("levels", LEVELS, board.levels, "a record in a domain and a level"),
        ("tasks", TASKS, board.tasks, "a figure of a task"),
    ):
        spec.write(frame, folder / f"{name}.parquet", {})
        with atomic_file(folder / f"{name}.csv") as path:
            _for_spreadsheets(frame).write_csv(path)
        with atomic_file(folder / f"{name}.json") as path:
            frame.write_json(path)
        found.append(Table(name, row, frame.height))
    return found


def _for_spreadsheets(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a table in which no text is a formula: what others wrote may begin with one's sign."""
    text = pl.col(pl.String)
    return frame.with_columns(
        pl.when(text.str.contains(FORMULA)).then("'" + text).otherwise(text).name.keep()
    )
