"""A model's page: each of its runs, with the tuned model, its restored variants and its facts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl

from sftbench.analysis.summary import DOMAIN_NAMES
from sftbench.facts.table import DOMAINS
from sftbench.report import charts, restores, words
from sftbench.report.rule_names import parse
from sftbench_leaderboard.board import Board
from sftbench_leaderboard.groups import Group
from sftbench_leaderboard.items import read_items
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside
from sftbench_leaderboard.record import Headline, LeaderboardRecord
from sftbench_leaderboard.site.render import visible

SHOWN = 25
"""Lost facts of a run on the page, and as many gained; all are in the items."""


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


class Fact(NamedTuple):
    """A fact that the model lost or gained."""

    question: words.Clipped
    about: str
    answer: words.Clipped
    before: words.Clipped
    after: words.Clipped


class Facts(NamedTuple):
    """The facts shown, and how many there are."""

    rows: tuple[Fact, ...]
    total: int


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

    @property
    def restored(self) -> tuple[Variant, ...]:
        """All but the tuned model."""
        return tuple(one for one in self.variants if one.kind != "tuned")

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


def pages_of(board: Board) -> dict[str, str]:
    """Return the page of each model, below ``models/``: names that no file system confuses."""
    pages: dict[str, str] = {}
    taken: set[str] = set()
    for name in board.models["model"].unique(maintain_order=True):
        plain = name.replace("/", "__")
        page, again = plain, 1
        while page.lower() in taken:
            again += 1
            page = f"{plain}~{again}"
        taken.add(page.lower())
        pages[name] = f"{page}.html"
    return pages


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
    lost, gained = _facts(board, variants[0], known)
    return Run(key, group, tuple(variants), lost, gained, dict(_curves(board, variants, members)))


def _variant(board: Board, at: int) -> Variant:
    row = board.models.row(at, named=True)
    ranks = board.domains.filter((pl.col("record") == row["record"]) & pl.col("rank").is_not_null())
    return Variant(
        at, label(row["variant"]), row["kind"], board.records[at], row["record"],
        {name: (rank, tied) for name, rank, tied in ranks.select("domain", "rank", "tied").rows()},
    )  # fmt: skip


def label(variant: str) -> str:
    """Return a variant's name as the report shows it: "restored 5 %", "random 20 % norm"."""
    rule = parse(variant.removeprefix("tuned+restore(").removesuffix(")"))
    return variant if rule is None else words.rule_label(rule)


def _order(one: Variant) -> tuple[int, str, float]:
    kinds = ("tuned", "restored", "control")
    rule = parse(one.record.model.variant.removeprefix("tuned+restore(").removesuffix(")"))
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
    rule = parse(one.record.model.variant.removeprefix("tuned+restore(").removesuffix(")"))
    return one.label if rule is None else rule.series


def _score(result: Headline) -> dict[str, float | None] | None:
    found = restores.score_of(result)  # type: ignore[arg-type]
    return None if found is None else found._asdict()


def _plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [row._asdict() for row in rows]


def _facts(board: Board, one: Variant, known: Known) -> tuple[Facts, Facts]:
    """Return the facts that a variant lost, the best known first, and those that it gained."""
    items = read_items(items_beside(board.paths[one.at]).read_bytes())
    facts = known.fact_set(one.record.facts.digest)
    if facts is None:
        items = items.with_columns(question=pl.col("relation"))
    else:
        asked = facts.frame.select("fact_id", "question")
        items = items.join(asked, on="fact_id", how="left", maintain_order="left")
    order = pl.col("domain").replace_strict({name: at for at, name in enumerate(DOMAINS)})
    lost = items.filter(pl.col("base_correct") & ~pl.col("correct"))
    gained = items.filter(~pl.col("base_correct") & pl.col("correct"))
    return (
        _shown(lost.sort(order, -pl.col("level"), "fact_id")),
        _shown(gained.sort(order, "level", "fact_id")),
    )


def _shown(facts: pl.DataFrame) -> Facts:
    return Facts(
        tuple(
            Fact(
                *(_clipped(row["question"] or row["relation"]), _about(row)),
                *(_clipped(row[name]) for name in ("answer", "base_text", "text")),
            )
            for row in facts.head(SHOWN).iter_rows(named=True)
        ),
        facts.height,
    )


def _clipped(text: str) -> words.Clipped:
    return words.clip(visible(text))


def _about(row: dict[str, Any]) -> str:
    return f"{row['relation']}, {DOMAIN_NAMES[row['domain']]}, level {row['level']}"
