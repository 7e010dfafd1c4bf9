"""The runs of a model: the tuned model and its restored variants, in each group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from sftbench.report import charts, restores
from sftbench_leaderboard.board import Board
from sftbench_leaderboard.groups import Group
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.record import Headline, LeaderboardRecord
from sftbench_leaderboard.site.facts import Facts, changed_facts
from sftbench_leaderboard.site.names import rule_of, variant_label


class Variant(NamedTuple):
    """A record of a run.

    Attributes:
        at: its place on the board.
        label: "tuned", "restored 5 %" ...
        kind: tuned, restored or control.
        ranks: by domain: rank and records tied, where it has one.
    """

    at: int
    label: str
    kind: str
    record: LeaderboardRecord
    id: str
    ranks: dict[str, tuple[int, int]]


class TaskRow(NamedTuple):
    """A figure of a task: of the base, then of each variant of the run; None where unknown."""

    task: str
    metric: str
    n: int
    base: float | None
    values: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """What was asked of one tuned model and its restored variants, in one group.

    Attributes:
        key: names it within the page.
        group: the records that it can be compared with.
        variants: the tuned model first, where it was sent in.
    """

    key: str
    group: Group
    variants: tuple[Variant, ...]
    lost: Facts
    gained: Facts
    curves: dict[str, list[dict[str, Any]]]

    @property
    def first(self) -> Variant:
        """The tuned model, else the first restored variant."""
        return self.variants[0]

    def tasks(self) -> list[TaskRow]:
        """Return each figure of a task with what every variant scores in it."""
        first = self.first.record
        base = {(one.task, one.metric): one.value for one in first.base_tasks}
        scores = [
            {(one.task, one.metric): one.value for one in variant.record.tasks}
            for variant in self.variants
        ]
        return [
            TaskRow(
                one.task, one.metric, one.n, base.get((one.task, one.metric)),
                tuple(found.get((one.task, one.metric)) for found in scores),
            )
            for one in first.tasks
        ]  # fmt: skip

    def chart_data(self) -> dict[str, dict[str, Any]]:
        """Return what the charts draw: see `sftbench.report.charts.chart_data`."""
        results = self.first.record.domains
        key = {str(one.domain): f"{self.key}-{one.domain}" for one in results}
        return {
            "levels": {key[it.domain]: _plain(charts.level_kept(it)) for it in results},  # type: ignore[arg-type]
            "outcomes": {key[it.domain]: _plain(charts.level_outcomes(it)) for it in results},  # type: ignore[arg-type]
            "scores": {key[it.domain]: _score(it) for it in results},
            "criteria": {key[name]: rows for name, rows in self.curves.items()},
        }


def runs_of(board: Board, model: str, known: Known) -> list[Run]:
    """Return the runs of a model: those on canonical cards first, then by base and facts."""
    rows = board.models.with_row_index("at").filter(pl.col("model") == model)
    tuned = pl.Series("tuned", [board.records[at].model.tuned_digest for at in rows["at"]])
    found = rows.with_columns(tuned).sort(
        "canonical", "group", "tuned", descending=[True, False, False]
    )
    return [
        _run(board, [*part["at"]], f"run{number}", known)
        for number, (_, part) in enumerate(
            found.group_by("group", "tuned", maintain_order=True), start=1
        )
    ]


def _run(board: Board, places: Sequence[int], key: str, known: Known) -> Run:
    variants = sorted((_variant(board, at) for at in places), key=_order)
    group, members = board.groups[board.models["group"][variants[0].at]]
    first = variants[0]
    lost, gained = changed_facts(first.record, board.paths[first.at], known)
    return Run(key, group, tuple(variants), lost, gained, dict(_curves(board, variants, members)))


def _variant(board: Board, at: int) -> Variant:
    row = board.models.row(at, named=True)
    return Variant(
        at, variant_label(row["variant"]), row["kind"], board.records[at], row["record"],
        board.ranks.get(row["record"], {}),
    )  # fmt: skip


def _order(one: Variant) -> tuple[int, str, float]:
    kinds = ("tuned", "restored", "control")
    rule = rule_of(one.record.model.variant)
    size = float(rule.size) if rule is not None and rule.size is not None else 0.0
    return kinds.index(one.kind), rule.series if rule is not None else "", size


def _curves(
    board: Board, variants: Sequence[Variant], members: Sequence[int]
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield for each domain the tuned model and its restores, by the norm that each takes back."""
    answers = board.answers[board.models["group"][variants[0].at]]
    place = {at: row for row, at in enumerate(members)}
    first = variants[0]
    if first.kind != "tuned":
        return
    for headline in first.record.domains:
        here = (answers.facts["domain"] == headline.domain).to_numpy()
        gained = here & answers.right[place[first.at]] & ~answers.base[place[first.at]]
        points = []
        for one in variants:
            removed = 0.0 if one.kind == "tuned" else _removed(one.record)
            found = one.record.domain(headline.domain)
            if removed is None or found is None:
                continue
            still = answers.right[place[one.at]][gained]
            score = _score(found) or {"value": None, "low": None, "high": None}
            points.append(restores.CriterionPoint(
                _series(one), one.label, 100 * removed, score["value"],
                100 * float(still.mean()) if len(still) else None, score["low"], score["high"],
            )._asdict())  # fmt: skip
        if len(points) > 1:
            yield headline.domain, points


def _removed(record: LeaderboardRecord) -> float | None:
    return None if record.restore is None else record.restore.removed


def _series(one: Variant) -> str:
    if one.kind == "tuned":
        return ""
    rule = rule_of(one.record.model.variant)
    return one.label if rule is None else rule.series


def _score(result: Headline) -> dict[str, float | None] | None:
    found = restores.score_of(result)  # type: ignore[arg-type]
    return None if found is None else found._asdict()


def _plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [row._asdict() for row in rows]
