"""The ranks of comparable models in each domain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sftbench.facts.table import DOMAINS
from sftbench_leaderboard.answers import Answers
from sftbench_leaderboard.ranks import Rank, rank


class Standing(NamedTuple):
    """Where a record stands in a domain.

    Attributes:
        place: of the record among those of its group.
        domain: "in" or "out".
        facts: that ranks rest on: those that the base knows in half of the runs or more, of level
            1 to 4.
        rank: its rank, with the score on those facts.
        tied: records in its tie group, itself among them.
    """

    place: int
    domain: str
    facts: int
    rank: Rank
    tied: int


def standings(answers: Answers, ranked: Sequence[int]) -> list[Standing]:
    """Return the standing of records in each domain that has facts to rank by.

    Args:
        answers: of all records of a group.
        ranked: places of those that get a rank.
    """
    found = []
    for domain in DOMAINS:
        scored = answers.scored(domain)
        design = answers.design(scored)
        if design is None or not ranked:
            continue
        ranks = rank(design, answers.right[list(ranked)][:, scored].astype(float))
        sizes = np.bincount([one.rank for one in ranks])
        found += [
            Standing(place, domain, design.n, one, int(sizes[one.rank]))
            for place, one in zip(ranked, ranks, strict=True)
        ]
    return found
