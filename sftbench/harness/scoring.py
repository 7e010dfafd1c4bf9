"""Scoring for lm-eval: the metrics of one answer, by the matching that everything else uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sftbench.facts.matching import is_right


def words(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return {"acc": 1.0 or 0.0}: an answer as words, no run-on (see `is_right`)."""
    return {"acc": float(is_right(results[0], doc["answers"], "words"))}


def strict_paper(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return {"acc": 1.0 or 0.0}: the paper's plain substring."""
    return {"acc": float(is_right(results[0], doc["answers"], "strict-paper"))}
