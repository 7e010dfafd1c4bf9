"""Baselines: what a model scores that knows nothing, by one constant answer or by an echo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import polars as pl

from sftbench.common.errors import SftbenchError
from sftbench.facts.matching import AnswerMatcher, How
from sftbench.facts.table import EXCLUDED_FLAGS, has_flag


@dataclass(frozen=True)
class Baseline:
    """What takes no knowledge, of one relation's test facts; shares in [0, 1].

    Attributes:
        majority_answer: the canonical answer that most scored facts share, the first in the
            alphabet among equals; of all test facts where none is scored; "" where there is none.
        majority: share of the scored facts that this one constant answer gets right.
        echo: share of all test facts whose answer stands in the question. They are kept from
            being scored by a flag, so this says what an echo would score without it.
        scored: number of test facts that are scored (no excluded flag).
        facts: number of all test facts.
        majority_of_all: share of all test facts that `majority_answer` gets right.
        echo_of_scored: share of the scored facts whose answer stands in the question.
    """

    majority_answer: str
    majority: float
    echo: float
    scored: int
    facts: int
    majority_of_all: float
    echo_of_scored: float

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Baseline:
        """Return the baseline that `asdict` wrote; raise `SftbenchError` for another form."""
        try:
            return cls(**{field.name: record[field.name] for field in fields(cls)})
        except (KeyError, TypeError):
            raise SftbenchError(f"is not a baseline of a relation: {record}") from None


def baselines_of(frame: pl.DataFrame, how: How = "words") -> dict[str, Baseline]:
    """Return relation to baseline, for every relation of a fact table, sorted by name.

    Matching is that of scoring, aliases included. A pure function of the rows.

    Args:
        frame: rows with the columns of `FACTS`.
        how: how an answer is recognised, see `facts.matching`.
    """
    test = frame.filter(pl.col("split") == "test").with_columns(scored=~has_flag(*EXCLUDED_FLAGS))
    matcher_of = _matchers(how)
    return {
        relation: _baseline(test.filter(pl.col("relation") == relation), matcher_of)
        for relation in sorted(set(frame["relation"]))
    }


def _matchers(how: How) -> Callable[[Sequence[str]], AnswerMatcher]:
    """Return what gives the matcher of a fact's answers; facts that share them share it."""
    made: dict[tuple[str, ...], AnswerMatcher] = {}

    def matcher_of(answers: Sequence[str]) -> AnswerMatcher:
        key = tuple(answers)
        if key not in made:
            made[key] = AnswerMatcher(key, how)
        return made[key]

    return matcher_of


def _baseline(rows: pl.DataFrame, matcher_of: Callable[[Sequence[str]], AnswerMatcher]) -> Baseline:
    """Return the baseline of one relation from its test facts (with a column `scored`)."""
    scored = rows["scored"].to_list()
    matchers = [matcher_of(answers) for answers in rows["answers"]]
    canonical = [answers[0] for answers in rows["answers"]]
    kept = [answer for answer, is_scored in zip(canonical, scored, strict=True) if is_scored]
    counted = Counter(kept or canonical)
    majority = min(counted, key=lambda answer: (-counted[answer], answer), default="")
    right = [matcher.contains(majority) for matcher in matchers]
    echoed = [
        matcher.contains(question)
        for matcher, question in zip(matchers, rows["question"], strict=True)
    ]
    return Baseline(
        majority_answer=majority,
        majority=_share(_where(right, scored)),
        echo=_share(echoed),
        scored=len(kept),
        facts=rows.height,
        majority_of_all=_share(right),
        echo_of_scored=_share(_where(echoed, scored)),
    )


def _where(hits: Iterable[bool], chosen: Iterable[bool]) -> list[bool]:
    return [hit for hit, is_chosen in zip(hits, chosen, strict=True) if is_chosen]


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else 0.0


def to_record(baselines: Mapping[str, Baseline]) -> dict[str, dict[str, Any]]:
    """Return the baselines as JSON values, for the record of a fact table."""
    return {relation: asdict(baseline) for relation, baseline in baselines.items()}


def of_record(record: Mapping[str, Mapping[str, Any]]) -> dict[str, Baseline]:
    """Return the baselines that `to_record` wrote."""
    return {relation: Baseline.of_record(one) for relation, one in record.items()}
