"""Shots: which facts are shown as examples, and which examples a fact is asked with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.facts.flags import majority_answers
from sftbench.facts.matching import normalise
from sftbench.facts.table import ANSWER_IN_QUESTION, SHOTS, FactSet, has_flag

MOST_SHOTS = 8
"""Facts in a shot set, at most."""
FEWEST_SHOTS = 4
"""Facts in a shot set where the relation is small; fewer only where it has no more to give."""
SHARE_OF_TRAIN = 4
"""Above `FEWEST_SHOTS`, all sets together take no more than one in this many train facts."""


@dataclass(frozen=True)
class Shot:
    """One example in a prompt: a question and its canonical answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class _Candidate:
    """A train fact that may be an example; `answers` are normalised, aliases included."""

    fact_id: str
    answers: frozenset[str]


def reserve_shots(frame: pl.DataFrame) -> pl.DataFrame:
    """Flag the facts of the three shot sets of each relation; shot flags set before are dropped.

    A set holds up to eight facts of the relation's train split, dealt out in an order that only
    their fact_id decides, so that neither the order of the rows nor another relation matters.
    Small relations (fewer than 96 candidates) give four to a set, so that examples do not eat
    the training data. A candidate

    - carries no `ANSWER_IN_QUESTION` flag and has a question that no test fact asks;
    - does not share an answer (aliases included) with the relation's majority answer, the most
      frequent canonical one: with it among the shots, base scores move by tens of points;
    - shares no answer with another fact of its set.

    A relation with too few such facts gets smaller sets, or none (see `shots_of`).

    Args:
        frame: rows with the columns of `FACTS`.

    Returns:
        The same rows in the same order, with `SHOTS` added to `flags` (sorted) where reserved.
    """
    plain = frame.with_columns(
        pl.col("flags").list.eval(pl.element().filter(~pl.element().is_in(SHOTS)))
    )
    tested = set(plain.filter(pl.col("split") == "test")["question"])
    majority = majority_answers(plain)
    flag_of: dict[str, str] = {}
    for relation in sorted(set(plain["relation"])):
        rows = plain.filter(pl.col("relation") == relation)
        flag_of |= _deal(_candidates(rows, majority.get(relation), tested))
    added = [[flag_of[name]] if name in flag_of else [] for name in plain["fact_id"]]
    new = pl.Series("new", added, pl.List(pl.String))
    return plain.with_columns(pl.col("flags").list.concat(new).list.sort())


def _candidates(rows: pl.DataFrame, majority: str | None, tested: set[str]) -> list[_Candidate]:
    """Return the facts of one relation that may be shots, in the order of their hash."""
    taken = {normalise(majority)} if majority else set()
    train = rows.filter(pl.col("split") == "train", ~has_flag(ANSWER_IN_QUESTION))
    found = (
        _Candidate(row["fact_id"], frozenset(normalise(answer) for answer in row["answers"]))
        for row in train.iter_rows(named=True)
        if row["question"] not in tested
    )
    kept = [candidate for candidate in found if taken.isdisjoint(candidate.answers)]
    return sorted(kept, key=lambda candidate: _rank(candidate.fact_id))


def _rank(fact_id: str) -> str:
    """Return the key that orders shots; another hash than the one that picks a fact's set."""
    return digest_of(["shot", fact_id])


def _deal(candidates: Sequence[_Candidate]) -> dict[str, str]:
    """Deal candidates to the sets, each to the smallest one that lacks its answers."""
    size = len(candidates) // (SHARE_OF_TRAIN * len(SHOTS))
    size = min(MOST_SHOTS, max(FEWEST_SHOTS, size))
    seen: dict[str, set[str]] = {flag: set() for flag in SHOTS}
    count = dict.fromkeys(SHOTS, 0)
    flag_of: dict[str, str] = {}
    for candidate in candidates:
        free = [
            flag
            for flag in SHOTS
            if count[flag] < size and seen[flag].isdisjoint(candidate.answers)
        ]
        if not free:
            continue
        flag = min(free, key=lambda name: (count[name], name))
        flag_of[candidate.fact_id] = flag
        seen[flag] |= candidate.answers
        count[flag] += 1
    return flag_of


class ShotSets:
    """The shots that every fact of a fact set is asked with.

    Attributes:
        by_relation: relation to its non-empty sets (flag name to shots, in order).
    """

    def __init__(self, facts: FactSet) -> None:
        """Collect the shot sets of `facts`."""
        reserved = facts.frame.filter(has_flag(*SHOTS))
        rows = sorted(reserved.iter_rows(named=True), key=lambda row: _rank(row["fact_id"]))
        domains = facts.frame.select("relation", "domain").unique().sort("domain", "relation")
        domain_of = dict(domains.iter_rows())
        by_domain = {
            domain: _sets_of(row for row in rows if row["domain"] == domain)
            for domain in sorted(set(domain_of.values()))
        }
        self.by_relation: dict[str, dict[str, tuple[Shot, ...]]] = {
            relation: _sets_of(row for row in rows if row["relation"] == relation)
            or by_domain[domain]
            or _sets_of(rows)
            for relation, domain in domain_of.items()
        }

    def name_of(self, fact_id: str, relation: str) -> str:
        """Return the name of a fact's set: "shot_1", "shot_2" or "shot_3".

        Raises:
            SftbenchError: the relation is not in the fact set, or no fact is reserved at all.
        """
        sets = self.by_relation.get(relation)
        if not sets:
            raise SftbenchError(
                f"no fact is reserved as an example for the relation {relation}",
                where="facts",
                remedy="A fact table needs a train split with at least one fact to show; "
                "or use the zero-shot prompt (`paper`), or no shots.",
            )
        names = sorted(sets)
        return names[int(digest_of(["shot set", fact_id]), 16) % len(names)]

    def __call__(self, fact_id: str, relation: str) -> tuple[Shot, ...]:
        """Return a fact's shots in the order they are shown; at most `MOST_SHOTS`.

        The set is picked by the fact's hash among the non-empty sets of its relation, so it is
        the same for every model.

        Raises:
            SftbenchError: as for `name_of`.
        """
        name = self.name_of(fact_id, relation)
        return self.by_relation[relation][name]


def shots_of(facts: FactSet) -> ShotSets:
    """Return what gives, for (fact_id, relation), the shots of that fact.

    A relation without shots of its own takes those of the other relations of its domain (set by
    set, answers distinct); a domain without any takes those of the whole fact set.
    """
    return ShotSets(facts)


def _sets_of(rows: Iterable[dict[str, Any]]) -> dict[str, tuple[Shot, ...]]:
    """Return flag name to shots, in the order of the rows; sets without a shot are left out."""
    sets: dict[str, list[Shot]] = {flag: [] for flag in SHOTS}
    seen: dict[str, set[str]] = {flag: set() for flag in SHOTS}
    for row in rows:
        flag = next(name for name in SHOTS if name in row["flags"])
        answers = {normalise(answer) for answer in row["answers"]}
        if len(sets[flag]) < MOST_SHOTS and seen[flag].isdisjoint(answers):
            sets[flag].append(Shot(row["question"], row["answers"][0]))
            seen[flag] |= answers
    return {flag: tuple(shots) for flag, shots in sets.items() if shots}
