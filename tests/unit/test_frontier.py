"""The picture of the estimators' frontier holds the figures that were measured."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "frontier.py"
SPEC = importlib.util.spec_from_file_location("benchmarks_frontier", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
frontier = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(frontier)


def figures(name, kind, cost, kappa):
    side = {"kappa": kappa, "middle_kappa": kappa / 2}
    return {"name": name, "kind": kind, "cost": cost, "card": side, "re-run": side}


def test_every_figure_that_has_a_cost_is_drawn_where_it_was_measured():
    found = [
        frontier.point(one)
        for one in (
            figures("the card's own re-run", "sampled", 1.0, 0.9),
            figures("sampled, 2 of 10 draws", "sampled", 0.2, 0.8),
            figures("likelihood", "likelihood", 0.05, 0.7),
        )
    ]
    assert [one["label"] for one in found] == ["", "2 draws of 10", "default"]
    assert [(one["cost"], one["kappa"], one["middle"]) for one in found] == [
        (1.0, 0.9, 0.45),
        (0.2, 0.8, 0.4),
        (0.05, 0.7, 0.35),
    ]


def test_the_page_needs_no_other_host():
    text = frontier.page([figures("likelihood", "likelihood", 0.05, 0.7)])
    assert "<script src" not in text
    assert '"kappa": 0.7' in text
