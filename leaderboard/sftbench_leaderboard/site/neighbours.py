"""Which models stand nearest to each in its ranking: what a comparison begins with."""

from __future__ import annotations

import polars as pl

from sftbench_leaderboard.board import Board

NEIGHBOURS = 4


def neighbours(board: Board) -> dict[str, str]:
    """Return for each ranked record its id and those of the nearest in rank, for a comparison."""
    found: dict[str, str] = {}
    ranked = board.models.join(
        board.domains.filter(pl.col("ranked_score").is_not_null()), on="record"
    ).sort("group", "domain", "ranked_score", "record", descending=[False, False, True, False])
    for _, part in ranked.group_by("group", "domain", maintain_order=True):
        ids = part["record"].to_list()
        for at, one in enumerate(ids):
            start = max(0, min(at - NEIGHBOURS // 2, len(ids) - NEIGHBOURS - 1))
            others = [it for it in ids[start : start + NEIGHBOURS + 1] if it != one]
            if others:
                found.setdefault(one, ",".join([one, *others]))
    return found
