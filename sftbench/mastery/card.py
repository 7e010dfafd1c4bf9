"""The mastery card: what one base model knows of one fact set, draw by draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from sftbench.common.digests import digest_of, digest_of_lines
from sftbench.common.errors import SftbenchError
from sftbench.common.tables import TableSpec
from sftbench.facts.table import FactSet
from sftbench.mastery.levels import LEVELS, level_chances, level_column

MAKE_ONE = "Make one with `sftbench mastery --model BASE --facts FACTS -o card.parquet`."

MASTERY = TableSpec(
    kind="mastery",
    columns={
        "fact_id": pl.String,
        # Sampled: [templates][draws], in template and draw order; null where chances are.
        "hits": pl.List(pl.List(pl.Boolean)),
        # Estimated: probability of a hit for each template, null for those that were not read;
        # null where hits are.
        "chances": pl.List(pl.Float64),
        "error": pl.Float64,  # standard error of the mean of the chances; null where hits are
        "draws": pl.Int32,  # templates x draws: the denominator of the rate; null for chances
        "rate": pl.Float64,  # R: share of the draws that state an answer, or mean of the chances
        "level": pl.Int8,  # 0..4, see levels.py; of chances: the most probable level
        # Of chances: probability of each level in a card of SAMPLED draws; null where hits are.
        "level_chances": pl.List(pl.Float64),
    },
    remedy=MAKE_ONE,
    optional=frozenset({"chances", "error", "level_chances"}),
)

MADE_OF = ("fact_id", "hits", "chances", "error")
"""What a card's rows are made of; the other columns follow from these."""


def with_levels(found: pl.DataFrame) -> pl.DataFrame:
    """Return columns of `MASTERY`, sorted by fact_id.

    Args:
        found: fact_id with hits, or with chances and error, or all four (see `MADE_OF`).
    """
    absent = [name for name in MADE_OF if name not in found.columns]
    found = found.with_columns(pl.lit(None, MASTERY.columns[name]).alias(name) for name in absent)
    parts = [
        _of_hits(found.filter(pl.col("hits").is_not_null())),
        _of_chances(found.filter(pl.col("hits").is_null())),
    ]
    return pl.concat(parts).sort("fact_id")


def _of_hits(found: pl.DataFrame) -> pl.DataFrame:
    # The inner lists are all of one length for a fact, so a plain sum of sums counts the hits.
    right = pl.col("hits").list.eval(pl.element().list.sum()).list.sum()
    drawn = pl.col("hits").list.eval(pl.element().list.len()).list.sum()
    frame = found.with_columns(draws=drawn.cast(pl.Int32), right=right).with_columns(
        rate=pl.col("right") / pl.col("draws"),
        level=level_column(pl.col("right"), pl.col("draws")),
        level_chances=None,
    )
    return frame.select(pl.col(name).cast(kind) for name, kind in MASTERY.columns.items())


def _of_chances(found: pl.DataFrame) -> pl.DataFrame:
    levels = level_chances(found["chances"].to_list(), found["error"].to_list())
    frame = found.with_columns(
        draws=None,
        rate=pl.col("chances").list.mean(),
        level=pl.Series([max(LEVELS, key=row.__getitem__) for row in levels], dtype=pl.Int8),
        level_chances=pl.Series(levels, dtype=pl.List(pl.Float64)),
    )
    return frame.select(pl.col(name).cast(kind) for name, kind in MASTERY.columns.items())


def _follows(frame: pl.DataFrame) -> bool:
    """Return whether each fact holds either hits or chances, and the other columns follow."""
    known = pl.col("chances").list.drop_nulls().list.len() > 0
    either = pl.col("hits").is_not_null() != (known & pl.col("error").is_not_null()).fill_null(
        False
    )
    if not frame.select(either.all()).item():
        return False
    levelled = with_levels(frame.select(MADE_OF))
    exact = ["fact_id", "draws", "rate", "level"]
    if not levelled.select(exact).equals(frame.select(exact)):
        return False
    # Another processor may round the last digit of these.
    shares = (one["level_chances"].explode().drop_nulls() for one in (levelled, frame))
    first, second = shares
    return len(first) == len(second) and bool(((first - second).abs() < 1e-6).all())


@dataclass(frozen=True)
class MasteryCard:
    """A card and the record of what made it.

    Attributes:
        frame: rows as in `MASTERY`, sorted by fact_id.
        record: model_digest, model_name, facts_digest, facts_name, templates_digest,
            estimator and its settings, engine, software, digest.
        path: where it was read from.
    """

    frame: pl.DataFrame
    record: Mapping[str, Any]
    path: Path | None = None

    @cached_property
    def digest(self) -> str:
        """Digest of what the levels are: model, facts, templates, settings, and every hit.

        Of estimated facts: every chance and its error in the place of the hits.
        """
        keys = ("model_digest", "facts_digest", "templates_digest", "settings")
        made_of = digest_of({key: self.record.get(key) for key in keys})
        rows = (
            [fact_id, hits] if hits is not None else [fact_id, chances, error]
            for fact_id, hits, chances, error in self.frame.select(MADE_OF).iter_rows()
        )
        return digest_of_lines([made_of, *(digest_of(row) for row in rows)])

    @property
    def estimator(self) -> str:
        """Name of the estimator that made it: "sampled", "likelihood" ..."""
        return str(self.record.get("settings", {}).get("estimator", "sampled"))

    @property
    def name(self) -> str:
        """What to call it in a message: its file, or the model and facts that it is for."""
        made = f"{self.record.get('model_name')} on {self.record.get('facts_name')}"
        return str(self.path) if self.path is not None else made

    def level_counts(self) -> dict[int, int]:
        """Return how many facts each level 0..4 holds."""
        counted = dict(self.frame.group_by("level").len().iter_rows())
        return {level: int(counted.get(level, 0)) for level in LEVELS}

    def require(self, *, facts: FactSet, base_digest: str | None = None) -> None:
        """Raise unless the card is for these facts and, where one is given, this base.

        Raises:
            SftbenchError: another fact set, another base, or facts that the set does not hold.
        """
        if self.record.get("facts_digest") != facts.digest:
            raise SftbenchError(
                f"this mastery card levels other facts ({self.record.get('facts_name')}, digest "
                f"{str(self.record.get('facts_digest'))[:12]}) than these ({facts.name}, digest "
                f"{facts.digest[:12]})",
                where=self.path,
                remedy=MAKE_ONE,
            )
        if base_digest is not None and self.record.get("model_digest") != base_digest:
            raise SftbenchError(
                f"this mastery card is for the base {self.record.get('model_name')} (digest "
                f"{str(self.record.get('model_digest'))[:12]}), not for this base (digest "
                f"{base_digest[:12]})",
                where=self.path,
                remedy=MAKE_ONE,
            )

    def write(self, path: Path) -> None:
        """Write the card, atomically."""
        MASTERY.write(self.frame, path, {**self.record, "digest": self.digest})

    @classmethod
    def read(cls, path: Path) -> MasteryCard:
        """Read a card.

        Raises:
            SftbenchError: missing or foreign file, or rows that its digest does not fit.
        """
        frame, record = MASTERY.read(path)
        if "model_digest" not in record or "facts_digest" not in record:
            raise SftbenchError(
                "this mastery table does not say which model and facts it is for",
                where=path,
                remedy=MAKE_ONE,
            )
        card = cls(frame.sort("fact_id"), record, path)
        if card.digest != record.get("digest") or not _follows(card.frame):
            raise SftbenchError(
                "the rows are not those that this card was written with",
                where=path,
                remedy=MAKE_ONE,
            )
        return card
