"""The figures of a record, computed from its items by the functions that sum up a comparison."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import polars as pl

from sftbench.analysis.changes import wide
from sftbench.analysis.evidence import ForgettingRecord
from sftbench.analysis.summary import DomainResult
from sftbench.checkpoints.variants import BASE, TUNED, Noise, Variant
from sftbench.compare.answered import Answered
from sftbench.compare.evidence import noise_result
from sftbench.compare.summarise import items_of, variant_results
from sftbench_leaderboard.record import BaseAccuracy, Headline

TOLERANCE = 1e-9
"""Two floats are equal that differ by less, absolutely or in relation."""


class Figures(NamedTuple):
    """What the items give, by the fields of a record."""

    domains: tuple[Headline, ...]
    base: tuple[BaseAccuracy, ...]
    noise: tuple[ForgettingRecord, ...]


def figures_of(items: pl.DataFrame) -> Figures:
    """Return the headline, the base's accuracy and the noise that items give.

    A restored variant is summed up like a tuned model: what it healed takes the tuned model's
    answers, which are not here.

    Args:
        items: columns of `ITEMS`.
    """
    draws = items["noise"].list.len().max()
    assert isinstance(draws, int)
    columns = items.with_columns(
        pl.col("noise").list.get(at).alias(f"draw{at}") for at in range(draws)
    )
    base = _answered(columns, BASE, "base_correct", "base_logprob")
    variant = _answered(columns, TUNED, "correct", "logprob")
    noise = [_answered(columns, Noise(at + 1), f"draw{at}", None) for at in range(draws)]
    rows = items.select(
        "fact_id", "relation", "domain", "level", "rate",
        question=pl.lit(""), answers=pl.concat_list("answer"),
    )  # fmt: skip
    every = items_of([base, variant, *noise], rows)
    compared = every.filter(pl.col("variant").is_in([BASE.name, TUNED.name]))
    before, after = variant_results([base, variant], compared)
    measured = items["logprob"].null_count() == 0
    found = noise_result([base, variant, *noise], wide(every), None)
    return Figures(
        tuple(headline_of(one, measured=measured) for one in after.domains),
        tuple(_base_of(one, measured=measured) for one in before.domains),
        found.forgetting,
    )


def headline_of(result: DomainResult, *, measured: bool = True) -> Headline:
    """Return a result of a comparison as it stands in a record.

    Args:
        result: of one domain.
        measured: log-probabilities were measured.
    """
    fields = {name: getattr(result, name) for name in Headline.model_fields}
    return Headline.model_validate(fields if measured else {**fields, "mean_logprob": None})


def _base_of(result: DomainResult, *, measured: bool) -> BaseAccuracy:
    fields = {name: getattr(result, name) for name in BaseAccuracy.model_fields}
    return BaseAccuracy.model_validate(fields if measured else {**fields, "mean_logprob": None})


def _answered(items: pl.DataFrame, variant: Variant, correct: str, logprob: str | None) -> Answered:
    """Return one column of the items as the answers of a variant, as far as summing up reads."""
    answers = items.select(
        "fact_id",
        variant=pl.lit(variant.name),
        variant_id=pl.lit(""),
        correct=correct,
        answer_logprob=pl.lit(0.0) if logprob is None else pl.col(logprob).fill_null(0.0),
    )
    return Answered(variant, answers, {"seconds": 0.0})


def difference(stated: Any, found: Any, place: str = "") -> tuple[str, Any, Any] | None:
    """Return the first place where two JSON values differ, with both values; None if nowhere.

    Floats within `TOLERANCE` are equal; counts must be the same.
    """
    if isinstance(stated, dict) and isinstance(found, dict) and stated.keys() == found.keys():
        parts = [(str(key), stated[key], found[key]) for key in stated]
    elif isinstance(stated, list) and isinstance(found, list) and len(stated) == len(found):
        parts = [(str(at), *pair) for at, pair in enumerate(zip(stated, found, strict=True))]
    else:
        return None if _same(stated, found) else (place, stated, found)
    for key, one, other in parts:
        below = difference(one, other, f"{place}.{key}" if place else key)
        if below is not None:
            return below
    return None


def _same(stated: Any, found: Any) -> bool:
    if isinstance(stated, float) and isinstance(found, float):
        return math.isclose(stated, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(stated) is type(found) and bool(stated == found)
