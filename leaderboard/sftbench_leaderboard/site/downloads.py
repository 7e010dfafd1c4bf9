"""Records and items as they were sent in, for download."""

from __future__ import annotations

import shutil
from pathlib import Path

from sftbench_leaderboard.board import Board
from sftbench_leaderboard.layout import items_beside


def copy_records(board: Board, folder: Path) -> None:
    """Copy every record of a board with its items into a folder, each in its place."""
    for path, place in zip(board.paths, board.models["path"], strict=True):
        to = folder / place
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
        shutil.copyfile(items_beside(path), items_beside(to))
