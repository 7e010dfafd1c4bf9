"""Who answered what right: the items of comparable records as one matrix, scanned lazily."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from sftbench.analysis.design import Design

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sftbench.analysis.design import Places

    Bits = NDArray[np.bool_]

AT_ONCE = 256
"""Files that are scanned together."""


MOST_APART = 0.05
"""Of the facts: a base that answers more of them otherwise than in other runs is not ranked."""


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of records that were asked the same facts.

    Attributes:
        facts: fact_id, relation, domain, level, answer; sorted by fact_id.
        right: what each record's variant answered right, ``[records, facts]``.
        base: what the base answered right in each record's run, ``[records, facts]``. Runs on
            other machines may differ in a few facts.
        runs: place of the run that each record is of, 0, 1, ..., ``[records]``: a tuned model and
            what was restored from it.
    """

    facts: pl.DataFrame
    right: Bits
    base: Bits
    runs: Places

    @cached_property
    def _votes(self) -> tuple[Places, int]:
        """Return how many runs answer each fact right with the base, and how many runs there are.

        Each run has one vote, however many of its variants were sent in.
        """
        first = np.unique(self.runs, return_index=True)[1]
        return self.base[first].sum(axis=0), len(first)

    @cached_property
    def known(self) -> Bits:
        """What the base knows: right in at least half of the runs, ``[facts]``.

        One set for all, whatever a single run says of the base: else models would be compared on
        facts that differ, and who lets the base fail could hide what was lost.
        """
        votes, runs = self._votes
        found: Bits = votes * 2 >= runs
        return found

    @cached_property
    def apart(self) -> Places:
        """Facts that the base answered otherwise than in most runs, of each record.

        Where as many runs say one thing as the other, as two runs may, neither is apart.
        """
        votes, runs = self._votes
        found: Places = ((self.base != self.known) & (votes * 2 != runs)).sum(axis=1)
        return found

    def agrees(self, place: int) -> bool:
        """Return whether a record's base answers as in most runs, but for a few facts."""
        return bool(self.apart[place] <= MOST_APART * self.facts.height)

    def scored(self, domain: str) -> Bits:
        """Return the facts that retention rests on: known, of level 1 to 4, ``[facts]``."""
        here = ((self.facts["domain"] == domain) & (self.facts["level"] > 0)).to_numpy()
        found: Bits = here & self.known
        return found

    def design(self, scored: Bits) -> Design | None:
        """Return the design of some facts, in the order in which they stand; None of no facts."""
        return Design.of(self.facts.filter(pl.Series(scored))) if scored.any() else None


def answers_of(paths: Sequence[Path], runs: Sequence[str]) -> Answers:
    """Return the answers in the items of accepted records of one group.

    Only the columns that are needed are read, some hundred files at a time.

    Args:
        paths: of the items files.
        runs: what names the run that each is of.
    """
    names = ["fact_id", "relation", "domain", "level", "answer"]
    facts = pl.read_parquet(paths[0], columns=names, glob=False, hive_partitioning=False)
    right = np.empty((len(paths), facts.height), dtype=bool)
    base = np.empty_like(right)
    done = 0
    for columns in _columns(paths):
        count = len(columns) // facts.height
        for name, to in (("correct", right), ("base_correct", base)):
            to[done : done + count] = columns[name].to_numpy().reshape(count, facts.height)
        done += count
    return Answers(facts, right, base, np.unique(runs, return_inverse=True)[1])


def _columns(paths: Sequence[Path]) -> Iterator[pl.DataFrame]:
    for start in range(0, len(paths), AT_ONCE):
        # polars reads statistics of each file unless told not to; there is nothing to skip here.
        # A folder's name is no pattern either, whatever marks it holds.
        some = list(paths[start : start + AT_ONCE])
        rows = pl.scan_parquet(some, use_statistics=False, glob=False, hive_partitioning=False)
        yield rows.select("correct", "base_correct").collect()
