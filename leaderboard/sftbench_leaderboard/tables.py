"""The tables of a board as files: CSV, JSON and Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sftbench_leaderboard.board import DOMAINS, LEVELS, MODELS, TASKS, Board


class Table(NamedTuple):
    """A table that was written: its name, what a row is, and how many there are."""

    name: str
    row: str
    rows: int


def write_tables(board: Board, folder: Path) -> list[Table]:
    """Write the tables of a board into a folder, which is made; return them."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, spec, frame, row in (
        ("models", MODELS, board.models, "a record: a variant of a model on a fact set"),
        ("domains", DOMAINS, board.domains, "a record in a domain: rank, retention, gains"),
        ("levels", LEVELS, board.levels, "a record in a domain and a level"),
        ("tasks", TASKS, board.tasks, "a figure of a task"),
    ):
        spec.write(frame, folder / f"{name}.parquet", {})
        frame.write_csv(folder / f"{name}.csv")
        frame.write_json(folder / f"{name}.json")
        found.append(Table(name, row, frame.height))
    return found
