"""The board: accepted records as typed tables, with ranks; what site and downloads are made of.

    results folder --validate (once: `receipts`)--> records --groups--> answers --> ranks
                                                       |                              |
                                                       +----------> tables <----------+

Retention, gains and accuracy of a record were recomputed from its items when it was accepted; its
recipe, drift, tasks and cost are taken on trust.
docs/leaderboard.md documents the columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from sftbench.analysis.evidence import EstimateRecord
from sftbench.common.digests import digest_of
from sftbench.common.tables import TableSpec
from sftbench_leaderboard.answers import Answers, answers_of
from sftbench_leaderboard.groups import ID_LENGTH, Groups, groups_of, kind_of
from sftbench_leaderboard.layout import items_beside, place_of
from sftbench_leaderboard.record import Headline, LeaderboardRecord
from sftbench_leaderboard.standings import Standing, standings

REMEDY = "Make one with `sftbench leaderboard table`."
MODELS = TableSpec(
    kind="leaderboard models",
    columns={
        "record": pl.String,  # 16 hexadecimal digits: of place and items; key of all tables
        "group": pl.String,  # 16 hexadecimal digits: records of one group can be compared
        "model": pl.String,  # "org/model"
        "variant": pl.String,
        "kind": pl.String,  # tuned, restored or control
        "base": pl.String,
        "base_digest": pl.String,
        "suite": pl.String,
        "facts": pl.String,
        "asked": pl.UInt32,
        "canonical": pl.Boolean,  # on the canonical card; only then there are ranks
        "estimator": pl.String,  # of the card
        "parameters": pl.UInt64,
        "method": pl.String,
        "level": pl.String,  # of the facts it was tuned on
        "size": pl.UInt32,  # how many
        "learning_rate": pl.Float64,
        "update_norm": pl.Float64,  # L2
        "removed": pl.Float64,  # share of that norm which the restore takes back
        "scalars": pl.Float64,  # share of the region's scalars that are restored
        "drift": pl.Float64,  # KL(variant || base) of the answers, nats a token
        "seconds": pl.Float64,  # to make and ask it
        "training_seconds": pl.Float64,
        "tokens": pl.UInt64,  # in training
        "base_apart": pl.UInt32,  # facts that its base answered otherwise than in most runs
        "made": pl.String,  # UTC
        "path": pl.String,  # in the results folder
    },
    remedy=REMEDY,
)
DOMAINS = TableSpec(
    kind="leaderboard domains",
    columns={
        "record": pl.String,
        "domain": pl.String,  # in or out
        "rank": pl.UInt32,  # dense, within the group; null without the canonical card
        "tied": pl.UInt32,  # records of that rank
        "ranked_score": pl.Float64,  # on the facts that ranks rest on
        "ranked_facts": pl.UInt32,
        "retention": pl.Float64,  # the knowledge-retention score
        "retention_low": pl.Float64,  # 95 % intervals
        "retention_high": pl.Float64,
        "known": pl.UInt32,  # facts of level 1 to 4 that the base answers right
        "kept": pl.UInt32,  # of these, right in the variant
        "lost": pl.UInt32,  # all levels
        "gained": pl.UInt32,  # all levels
        "gain": pl.Float64,  # share of what the base has wrong
        "gain_low": pl.Float64,
        "gain_high": pl.Float64,
        "accuracy": pl.Float64,  # macro over levels
        "base_accuracy": pl.Float64,
        "forgotten_by_noise": pl.Float64,  # share that random changes of the size forget
    },
    remedy=REMEDY,
)
LEVELS = TableSpec(
    kind="leaderboard levels",
    columns={
        "record": pl.String,
        "domain": pl.String,
        "level": pl.UInt8,
        "known": pl.UInt32,
        "kept": pl.UInt32,
        "retained": pl.Float64,  # kept / known, with Wilson's 95 % interval
        "low": pl.Float64,
        "high": pl.Float64,
        "unknown": pl.UInt32,
        "gained": pl.UInt32,
    },
    remedy=REMEDY,
)
TASKS = TableSpec(
    kind="leaderboard tasks",
    columns={
        "record": pl.String,
        "task": pl.String,
        "metric": pl.String,
        "value": pl.Float64,
        "base": pl.Float64,
        "gain": pl.Float64,  # better is positive; null where the task does not say what is better
        "stderr": pl.Float64,  # of `value` alone, as the harness gives it
        "n": pl.UInt32,
    },
    remedy=REMEDY,
)
DRIFT = "KL(variant || base), question, variant"
"""The figure that stands in the tables: see `from_compare`."""


@dataclass(frozen=True, eq=False)
class Board:
    """Accepted records and what they amount to.

    Attributes:
        records: in the order of the tables' rows.
        paths: of the records.
        models: columns of `MODELS`, one row a record.
        domains: columns of `DOMAINS`.
        levels: columns of `LEVELS`.
        tasks: columns of `TASKS`.
        groups: by id, with the places of their records.
        answers: of each group.
    """

    records: Sequence[LeaderboardRecord]
    paths: Sequence[Path]
    models: pl.DataFrame
    domains: pl.DataFrame
    levels: pl.DataFrame
    tasks: pl.DataFrame
    groups: Groups
    answers: dict[str, Answers]

    @cached_property
    def ranks(self) -> dict[str, dict[str, tuple[int, int]]]:
        """By record id and domain: the rank, and how many records share it; ranked ones alone."""
        found: dict[str, dict[str, tuple[int, int]]] = {}
        ranked = self.domains.filter(pl.col("rank").is_not_null())
        for record, domain, rank, tied in ranked.select("record", "domain", "rank", "tied").rows():
            found.setdefault(record, {})[domain] = (rank, tied)
        return found

    @classmethod
    def of(cls, accepted: Iterable[tuple[Path, LeaderboardRecord]]) -> Board:
        """Return the board of accepted records and their paths."""
        pairs = list(accepted)
        paths, records = [one for one, _ in pairs], [one for _, one in pairs]
        groups = groups_of(records, lambda place: _levels(paths[place]))
        ids = [id_of(record) for record in records]
        kinds = [kind_of(record) for record in records]
        answers = {
            group.id: answers_of(
                [items_beside(paths[place]) for place in places],
                [records[place].model.tuned_digest for place in places],
            )
            for group, places in groups.values()
        }
        ranks = _ranks(groups, answers, ids, kinds)
        grouped = {
            place: {"group": group.id, "base": group.base, "base_apart": int(apart)}
            for group, places in groups.values()
            for place, apart in zip(places, answers[group.id].apart, strict=True)
        }  # fmt: skip
        headlines = [(at, one) for at, record in enumerate(records) for one in record.domains]
        return cls(
            records=records,
            paths=paths,
            models=_frame(MODELS, [
                {"record": ids[at], "kind": kinds[at], **_model(record), **grouped[at]}
                for at, record in enumerate(records)
            ]),
            domains=_frame(DOMAINS, [
                {"record": ids[at], **_domain(records[at], one), **_rank(ranks, ids[at], one)}
                for at, one in headlines
            ]),
            levels=_frame(LEVELS, [
                {"record": ids[at], "domain": one.domain, **level.model_dump()}
                for at, one in headlines for level in one.retention.levels
            ]),
            tasks=_frame(TASKS, [
                {"record": ids[at], **row} for at, record in enumerate(records)
                for row in _tasks(record)
            ]),
            groups=groups,
            answers=answers,
        )  # fmt: skip


def _ranks(
    groups: Groups, answers: Mapping[str, Answers], ids: Sequence[str], kinds: Sequence[str]
) -> dict[tuple[str, str], Standing]:
    """Return the standing of each record and domain, of groups on a canonical card."""
    found: dict[tuple[str, str], Standing] = {}
    for group, places in groups.values():
        if group.canonical:
            here = answers[group.id]
            ranked = [
                at for at, place in enumerate(places) if kinds[place] == "tuned" and here.agrees(at)
            ]
            for one in standings(here, ranked):
                found[ids[places[one.place]], one.domain] = one
    return found


def _levels(record: Path) -> str:
    """Return the digest of the levels in a record's items."""
    levels = pl.read_parquet(
        items_beside(record), columns=["level"], glob=False, hive_partitioning=False
    )
    return digest_of(levels["level"].to_list())


def id_of(record: LeaderboardRecord) -> str:
    """Return what names a record on the site and in the tables: 16 hexadecimal digits."""
    place = place_of(record.model.name, record.model.digest, record.suite.name)
    return digest_of([place.as_posix(), record.items.sha256])[:ID_LENGTH]


def _frame(spec: TableSpec, rows: list[dict[str, Any]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=dict(spec.columns), strict=False) if rows else None
    return spec.conform(pl.DataFrame(schema=dict(spec.columns)) if frame is None else frame)


def _model(record: LeaderboardRecord) -> dict[str, Any]:
    """Return a row of `MODELS` but for what takes the other records."""
    model, recipe, restore = record.model, record.recipe or {}, record.restore
    place = place_of(model.name, model.digest, record.suite.name)
    return {
        "model": model.name,
        "variant": model.variant,
        "base_digest": record.base.digest,
        "suite": record.suite.name,
        "facts": record.facts.name,
        "asked": record.facts.asked,
        "canonical": record.card.canonical,
        "estimator": record.card.estimator,
        "parameters": model.parameters,
        "method": _text(recipe.get("method")),
        "level": _text(recipe.get("level")),
        "size": _number(recipe.get("size"), whole=True),
        "learning_rate": _number(recipe.get("learning_rate")),
        "update_norm": record.update_norm,
        "removed": None if restore is None else restore.removed,
        "scalars": None if restore is None else restore.scalars,
        "drift": _drift(record.drift or {}),
        "seconds": record.cost.seconds,
        "training_seconds": record.cost.training_seconds,
        "tokens": record.cost.tokens,
        "made": record.made,
        "path": place.as_posix(),
    }


def _drift(figures: Mapping[str, float]) -> float | None:
    """Return how far the answers moved: as questions are asked, else in the first form there is."""
    moved = {key: value for key, value in figures.items() if _is_drift(key)}
    return moved.get(DRIFT, next(iter(moved.values()), None))


def _is_drift(figure: str) -> bool:
    return figure.startswith("KL(variant || base), ") and figure.endswith(", variant")


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _number(value: object, *, whole: bool = False) -> float | None:
    """Return a figure that is taken on trust: None where it is no such number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    fits = 0 <= value < 2**32 and (not whole or value == int(value))
    return value if fits else None


def _domain(record: LeaderboardRecord, one: Headline) -> dict[str, Any]:
    """Return a row of `DOMAINS` but for the ranks."""
    base = next((it for it in record.base.domains if it.domain == one.domain), None)
    noise = next((it for it in record.noise if it.domain == one.domain), None)
    found = one.retention
    return {
        "domain": one.domain,
        "retention": found.score,
        **_bounds("retention", one.score_interval),
        "known": sum(level.known for level in found.levels if level.level > 0),
        "kept": sum(level.kept for level in found.levels if level.level > 0),
        "lost": one.outcomes.lost,
        "gained": one.outcomes.gained,
        "gain": found.gain,
        **_bounds("gain", one.gain_interval),
        "accuracy": one.macro,
        "base_accuracy": None if base is None else base.macro,
        "forgotten_by_noise": None if noise is None else noise.noise.value,
    }


def _bounds(name: str, interval: EstimateRecord | None) -> dict[str, float | None]:
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return {f"{name}_low": low, f"{name}_high": high}


def _rank(
    ranks: Mapping[tuple[str, str], Standing], record: str, one: Headline
) -> dict[str, float | None]:
    standing = ranks.get((record, one.domain))
    if standing is None:
        return {"rank": None, "tied": None, "ranked_score": None, "ranked_facts": None}
    return {
        "rank": standing.rank.rank,
        "tied": standing.tied,
        "ranked_score": standing.rank.score,
        "ranked_facts": standing.facts,
    }


def _tasks(record: LeaderboardRecord) -> list[dict[str, Any]]:
    base = {(one.task, one.metric): one.value for one in record.base_tasks}
    rows = []
    for one in record.tasks:
        before = base.get((one.task, one.metric))
        sign = {True: 1, False: -1, None: None}[one.higher_is_better]
        known = before is not None and sign is not None
        gain = sign * (one.value - before) if known else None  # type: ignore[operator]
        rows.append({
            "task": one.task, "metric": one.metric, "value": one.value, "base": before,
            "gain": gain if gain is None or math.isfinite(gain) else None,
            "stderr": one.stderr, "n": _number(one.n, whole=True),
        })  # fmt: skip
    return rows
