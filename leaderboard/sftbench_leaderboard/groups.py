"""Which records can be compared: the same base, facts, levels and way to ask, on the same card."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import parse_variant
from sftbench.common.digests import digest_of
from sftbench_leaderboard.record import LeaderboardRecord

CONTROLS = ("random", "lowest-relative", "noise")
"""Restores that are not meant to help: what any restore of that size would do."""


class Group(NamedTuple):
    """Records that can be compared.

    Attributes:
        id: 12 hexadecimal digits, of all that must be the same.
        base: name of the base, as the first record calls it.
        base_digest: of its tensors.
        suite: name of the suite.
        facts: name of the fact set.
        asked: facts that were asked.
        canonical: on the canonical card of the base and the facts: only then models are ranked.
        estimator: of the card.
    """

    id: str
    base: str
    base_digest: str
    suite: str
    facts: str
    asked: int
    canonical: bool
    estimator: str

    @classmethod
    def of(cls, record: LeaderboardRecord) -> Group:
        """Return the group that a record belongs to."""
        return cls(
            id=digest_of(list(key_of(record)))[:12],
            base=record.base.name,
            base_digest=record.base.digest,
            suite=record.suite.name,
            facts=record.facts.name,
            asked=record.facts.asked,
            canonical=record.card.canonical,
            estimator=record.card.estimator,
        )


Groups = dict[str, tuple[Group, list[int]]]
"""Each group by its id, with the places of its records."""


def key_of(record: LeaderboardRecord) -> tuple[str, ...]:
    """Return what must be the same for two records to be comparable.

    The suite's name and version decide how facts are asked (`check_fields` holds them to it).
    """
    return (
        record.base.digest, record.facts.digest, record.facts.asked_digest,
        record.suite.name, record.suite.version, record.card.digest,
    )  # fmt: skip


def groups_of(records: Iterable[LeaderboardRecord]) -> Groups:
    """Return each group by its id, with the places of its records, in the order of the records."""
    ids: dict[Hashable, str] = {}
    found: Groups = {}
    for place, record in enumerate(records):
        key = key_of(record)
        if key not in ids:
            group = Group.of(record)
            ids[key], found[group.id] = group.id, (group, [])
        found[ids[key]][1].append(place)
    return found


def kind_of(record: LeaderboardRecord) -> str:
    """Return "tuned", "restored", or "control" for a restore that only shows what others are worth.

    Controls have no rank.
    """
    variant = parse_variant(record.model.variant)
    if not isinstance(variant, Restored):
        return "tuned"
    return "control" if variant.criterion in CONTROLS else "restored"
