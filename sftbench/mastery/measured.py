"""What an estimator found out about one fact: draws that were hit, or chances of a hit."""

from __future__ import annotations

from typing import Any, NamedTuple

Hits = list[list[bool]]
Chances = list[float | None]


class Measured(NamedTuple):
    """One fact, measured; either `hits` or `chances` is there.

    Attributes:
        fact_id: which.
        hits: ``[templates][draws]``: whether each completion stated an answer.
        chances: ``[templates]``: estimated probabilities that a completion states one; None for
            a template that was not read.
        error: standard error of the mean of `chances`.
    """

    fact_id: str
    hits: Hits | None = None
    chances: Chances | None = None
    error: float | None = None


def to_json(found: Measured) -> dict[str, Any]:
    """Return a measured fact as a JSON value: hits as one string of 0 and 1 for each template."""
    if found.hits is not None:
        return {"fact_id": found.fact_id, "hits": pack(found.hits)}
    return {"fact_id": found.fact_id, "chances": found.chances, "error": found.error}


def from_json(entry: dict[str, Any]) -> Measured:
    """Return what `to_json` was given.

    Raises:
        KeyError: a part is missing.
        TypeError: a part is of another type.
    """
    if "hits" in entry:
        return Measured(entry["fact_id"], hits=unpack(entry["hits"]))
    chances = [None if chance is None else float(chance) for chance in entry["chances"]]
    return Measured(entry["fact_id"], chances=chances, error=float(entry["error"]))


def pack(hits: Hits) -> list[str]:
    """Return one string of 0 and 1 for each template."""
    return ["".join("1" if hit else "0" for hit in row) for row in hits]


def unpack(rows: list[str]) -> Hits:
    """Return the hits that `pack` wrote."""
    return [[mark == "1" for mark in row] for row in rows]
