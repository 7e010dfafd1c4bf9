"""The example results that ship with the repository: real records, each recomputed."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from sftbench_leaderboard.board import Board
from sftbench_leaderboard.folder import verdicts

pytestmark = pytest.mark.unit

RESULTS = Path(__file__).parents[3] / "leaderboard" / "examples" / "results"


@pytest.fixture(scope="module")
def found():
    return list(verdicts(RESULTS))


def test_every_example_is_accepted(found):
    assert [(one.path.name, one.problems) for one in found if not one.ok] == []
    assert len(found) >= 12


def test_the_examples_are_ranked_and_of_several_kinds(found):
    board = Board.of((one.path, one.record) for one in found)
    assert set(board.models["kind"]) == {"tuned", "restored", "control"}
    assert {"full", "lora"} <= set(board.models["method"])
    assert board.tasks["gain"].null_count() == 0
    tuned = board.models.filter(pl.col("kind") == "tuned", "canonical")["record"]
    assert set(board.domains.drop_nulls("rank")["record"]) == set(tuned)
    assert len(tuned) >= 6
