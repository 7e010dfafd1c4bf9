"""Which records can be compared: the same base, facts, levels and way to ask, on the same card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import parse_variant
from sftbench.common.digests import digest_of
from sftbench_leaderboard.record import LeaderboardRecord

CONTROLS = ("random", "lowest-relative", "noise")
"""Restores that are not meant to help: what any restore of that size would do."""
ID_LENGTH = 16
SHORT = 6
"""Digits of a digest that tell two things of one name apart."""


class Group(NamedTuple):
    """Records that can be compared.

    Attributes:
        id: hexadecimal digits, of all that must be the same.
        base: what the base is called (`base_names`).
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


def groups_of(
    records: Sequence[LeaderboardRecord], levels: Callable[[int], str] = lambda _: ""
) -> Groups:
    """Return each group by its id, with the places of its records, in the order of the records.

    Args:
        records: of all groups.
        levels: the digest of the levels in a record's items, by its place; asked where the card
            may not be known, so that nothing else ties the levels to its digest.
    """
    found: Groups = {}
    bases = base_names(records)
    for place, record in enumerate(records):
        key = [*key_of(record), "" if record.card.canonical else levels(place)]
        name = digest_of(key)[:ID_LENGTH]
        if name not in found:
            found[name] = (_group(name, record, bases[record.base.digest]), [])
        found[name][1].append(place)
    return found


def _group(name: str, record: LeaderboardRecord, base: str) -> Group:
    return Group(
        id=name,
        base=base,
        base_digest=record.base.digest,
        suite=record.suite.name,
        facts=record.facts.name,
        asked=record.facts.asked,
        canonical=record.card.canonical,
        estimator=record.card.estimator,
    )


def base_names(records: Sequence[LeaderboardRecord]) -> dict[str, str]:
    """Return what each base is called, by its digest: as most models call it.

    Whoever submits names the base. Where two bases have one name, part of the digest follows it.
    """
    said = {(one.base.digest, one.model.tuned_digest, one.base.name) for one in records}
    votes: dict[str, Counter[str]] = {}
    for digest, _, name in sorted(said):
        votes.setdefault(digest, Counter())[name] += 1
    names = {digest: counted.most_common(1)[0][0] for digest, counted in votes.items()}
    twice = {name for name, count in Counter(names.values()).items() if count > 1}
    return {
        digest: f"{name} #{digest[:SHORT]}" if name in twice else name
        for digest, name in names.items()
    }


def kind_of(record: LeaderboardRecord) -> str:
    """Return "tuned", "restored", or "control" for a restore that only shows what others are worth.

    Only tuned models are ranked: restoring everything would be the base.
    """
    variant = parse_variant(record.model.variant)
    if not isinstance(variant, Restored):
        return "tuned"
    return "control" if variant.criterion in CONTROLS else "restored"
