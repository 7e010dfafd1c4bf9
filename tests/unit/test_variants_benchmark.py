"""The benchmark of many variants: what it extrapolates it says, and a missed bound is seen."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "variants.py"
SPEC = importlib.util.spec_from_file_location("benchmarks_variants", SCRIPT)
assert SPEC is not None
assert SPEC.loader is not None
variants = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(variants)

RIGHT = {"sft_knowledge_in_level0": 3, "sft_knowledge_out_level4": 2}


@pytest.fixture(autouse=True)
def one_question(monkeypatch):
    class Asked:
        height = 1

    monkeypatch.setattr(variants, "questions", lambda *_: Asked)


def row_of(count, runs, *, seconds=40.0, swap=0.1, right=RIGHT, model="lab"):
    """Return the row of so many variants, of which so many were run the other way too."""
    ours = {
        "plan": 1.0,
        "swaps": [swap] * count,
        "probes": [0.1] * count,
        "scoring": [0.5] * count,
        "right": [RIGHT] * count,
    }
    theirs = [variants.Theirs(30.0, right)] * runs
    return variants.row_of(model, count, seconds, ours, theirs, 1000)


def verdicts(row):
    return {check.what: check.verdict for check in variants.checks_of(row)}


def test_the_parts_are_the_whole():
    row = row_of(10, 10)
    assert row.start + sum(row.extra) + sum(row.scoring) == pytest.approx(row.ours)
    assert row.ratio == pytest.approx(300 / 40)


def test_what_was_not_run_is_the_mean_and_is_said():
    row = row_of(30, 4)
    assert row.theirs == pytest.approx(30 * 30)
    assert row.measured == row.equal == 4
    (_, said) = variants.words_of([row_of(3, 3), row])
    assert "the other 26: NOT MEASURED" in said


def test_missed_bounds_are_seen():
    assert set(verdicts(row_of(10, 10)).values()) == {"holds"}
    assert verdicts(row_of(10, 10, seconds=61.0))["theirs / ours"] == "missed"
    assert verdicts(row_of(10, 10, swap=1.0))["swap and probe, mean, s"] == "missed"
    other = {**RIGHT, "sft_knowledge_in_level0": 2}
    assert "missed" in verdicts(row_of(10, 3, right=other)).values()
    assert "theirs / ours" not in verdicts(row_of(10, 10, model="smollm2"))


def test_more_variants_begin_with_the_same():
    assert variants.rules_of(30)[:10] == variants.rules_of(10)


@pytest.mark.parametrize(
    ("model", "count", "budget", "runs"),
    [("smollm2", 10, 100, 3), ("lab", 10, 100, 10), ("lab", 30, 900, 30), ("lab", 30, 899, 3)],
)
def test_theirs_are_all_run_where_the_budget_allows(
    model, count, budget, runs, monkeypatch, tmp_path
):
    written = tmp_path / "written"
    monkeypatch.setattr(variants, "run", lambda *_: written.mkdir())
    monkeypatch.setattr(variants, "ask_theirs", lambda *_: variants.Theirs(30.0, RIGHT))
    theirs = []
    variants.ask_more(model, theirs, count, budget, 1000, tmp_path)
    assert len(theirs) == runs
