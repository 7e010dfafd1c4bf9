"""Aggregation: from the answers of all variants to the figures of a comparison."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from benchmarks.conftest import Measure
from benchmarks.references import INTERPRETER
from sftbench.analysis.changes import wide
from sftbench.checkpoints.variants import parse_variant
from sftbench.compare.answered import Answered
from sftbench.compare.evidence import noise_result, pair_results
from sftbench.compare.summarise import (
    gained_of,
    items_of,
    lost_of,
    relation_results,
    variant_results,
)
from sftbench.facts.reference import resolve_facts
from sftbench.mastery.levels import level_column

VARIANTS = (
    "base", "tuned", *(f"tuned+restore(relative,{percent}%)" for percent in (1, 5, 20)),
    *(f"base+noise({draw})" for draw in (1, 2, 3)),
)  # fmt: skip
DRAWS = 210
CHANGED = 0.15
"""Share of the answers that turn from right to wrong, or back, in each variant."""


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """Return the 3,993 test facts of geography with mastery that is drawn, all levels among it."""
    facts = resolve_facts("geography").scored().sort("fact_id")
    rng = np.random.default_rng(0)
    hits = pl.Series(rng.binomial(DRAWS, rng.beta(0.35, 0.6, facts.height)))
    return facts.with_columns(rate=hits / DRAWS, level=level_column(pl.lit(hits), pl.lit(DRAWS)))


@pytest.fixture(scope="module")
def answered(rows: pl.DataFrame) -> list[Answered]:
    """Return answers of eight variants, right as often as the facts are mastered, drawn."""
    rng = np.random.default_rng(1)
    known = rng.random(rows.height) < rows["rate"].to_numpy()
    found = []
    for name in VARIANTS:
        changed = rng.random(rows.height) < (0.0 if name == "base" else CHANGED)
        frame = rows.select(
            "fact_id",
            variant=pl.lit(name),
            variant_id=pl.lit("0"),
            correct=pl.Series(known ^ changed),
            text=pl.col("answers").list.first(),
            answer_logprob=pl.Series(-rng.exponential(1.0, rows.height)),
        )
        found.append(Answered(parse_variant(name), frame, {"seconds": 1.0}))
    return found


def bench_summarise(measure: Measure, answered: list[Answered], rows: pl.DataFrame) -> None:
    """Sum up 3,993 facts x 8 variants: levels, retention, relations, lost and gained facts."""

    def summarise() -> None:
        items = items_of(answered, rows)
        variant_results(answered, items)
        relation_results(answered, items)
        lost_of(items, answered)
        gained_of(items, answered)

    measure(INTERPRETER, summarise)


def bench_evidence(measure: Measure, answered: list[Answered], rows: pl.DataFrame) -> None:
    """Test the same 3,993 facts x 8 variants: paired differences, exact tests, noise."""
    facts = wide(items_of(answered, rows))

    def test() -> None:
        pair_results(answered, facts)
        noise_result(answered, facts, None)

    measure(INTERPRETER, test)
