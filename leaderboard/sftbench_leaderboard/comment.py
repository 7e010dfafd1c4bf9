"""New records as Markdown for a pull request: each beside its neighbours, or why it is rejected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sftbench.analysis.summary import DOMAIN_NAMES
from sftbench.report.gate_markdown import plain
from sftbench.report.words import count, share
from sftbench_leaderboard.groups import key_of
from sftbench_leaderboard.problems import Verdict
from sftbench_leaderboard.record import Headline, LeaderboardRecord

MARKER = "<!-- sftbench leaderboard -->"
"""The first line, by which a workflow finds its own comment again."""
NEIGHBOURS = 5
"""Rows above a new record, and as many below it."""
MOST_SHOWN = 20
"""New records with a table of their own: a comment holds 65,536 characters."""
MOST_PROBLEMS = 10


def comment(verdicts: Sequence[Verdict], new: Sequence[Path]) -> str:
    """Return a comment in Markdown (GitHub's) on the new records of a results folder.

    Args:
        verdicts: of the whole folder, the new records among them.
        new: the paths of the new records.
    """
    wanted = {path.absolute() for path in new}
    mine = [one for one in verdicts if one.path.absolute() in wanted]
    others = [one.record for one in verdicts if one.record is not None]
    rejected = [one for one in mine if one.record is None]
    accepted = [one.record for one in mine if one.record is not None]
    parts = [
        MARKER,
        f"### sftbench leaderboard: {count(len(accepted), 'new record')}"
        + (f", {len(rejected)} rejected" if rejected else ""),
        *(_rejection(one) for one in rejected[:MOST_SHOWN]),
        *(_beside(one, others) for one in accepted[:MOST_SHOWN]),
    ]
    left = max(0, len(rejected) - MOST_SHOWN) + max(0, len(accepted) - MOST_SHOWN)
    if left:
        parts.append(f"{count(left, 'further record')} not shown.")
    return "\n\n".join(parts) + "\n"


def _rejection(verdict: Verdict) -> str:
    where = plain("/".join(verdict.path.parts[-3:]).encode("ascii", "replace").decode()[:300])
    lines = [f"- {plain(str(one)[:300])}" for one in verdict.problems[:MOST_PROBLEMS]]
    more = len(verdict.problems) - len(lines)
    return "\n".join([f"❌ {where}", "", *lines, *([f"- and {more} more"] if more else [])])


def _beside(record: LeaderboardRecord, others: Sequence[LeaderboardRecord]) -> str:
    """Return one new record in a table with the records that it can be compared with."""
    alike = [one for one in others if key_of(one) == key_of(record)]
    domains = [one.domain for one in record.domains]
    ranked = sorted(alike, key=lambda one: (-_score(one, domains[0]), one.model.digest))
    place = ranked.index(record)
    start = max(0, place - NEIGHBOURS)
    shown = ranked[start : place + NEIGHBOURS + 1]
    head = (
        "| model | variant |"
        + "".join(f" kept {DOMAIN_NAMES[name]} | facts |" for name in domains)
        + "\n|---|---|"
        + "---:|---:|" * len(domains)
    )
    rows = [_row(one, domains, new=one is record) for one in shown]
    about = (
        f"✅ **{plain(record.model.name)}**, {plain(record.model.variant)}: the suite "
        f"{plain(record.suite.name)} {plain(record.suite.version)}, base {plain(record.base.name)} "
        f"({record.base.digest[:12]}), {count(len(alike) - 1, 'neighbour')}."
    )
    notes = [f"> {plain(note)}" for note in _notes(record)]
    return "\n\n".join([about, "\n".join([head, *rows]), *notes])


def _score(record: LeaderboardRecord, domain: str) -> float:
    headline = record.domain(domain)
    score = None if headline is None else headline.retention.score
    return -1.0 if score is None else score


def _row(record: LeaderboardRecord, domains: Sequence[str], *, new: bool) -> str:
    name = plain(record.model.name)
    cells = [f"**{name}**" if new else name, plain(record.model.variant)]
    for domain in domains:
        headline = record.domain(domain)
        cells += ["", ""] if headline is None else _kept(headline)
    return f"| {' | '.join(cells)} |"


def _kept(headline: Headline) -> list[str]:
    found = headline.retention
    return [
        plain(share(found.score, headline.score_interval, 1)),
        f"{found.kept:,}/{found.known:,}",
    ]


def _notes(record: LeaderboardRecord) -> list[str]:
    notes = []
    if not record.card.canonical:
        notes.append("Not on the canonical mastery card: shown apart and never ranked.")
    notes += [
        f"Random changes of this size forget {100 * one.noise.value:.1f} % "
        f"{DOMAIN_NAMES[one.domain]}, this model {100 * one.tuned.value:.1f} %."
        for one in record.noise
    ]
    return notes
