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
from sftbench.mastery.levels import LEVELS, level_column

MAKE_ONE = "Make one with `sftbench mastery --model BASE --facts FACTS -o card.parquet`."

MASTERY = TableSpec(
    kind="mastery",
    columns={
        "fact_id": pl.String,
        "hits": pl.List(pl.List(pl.Boolean)),  # [templates][draws], in template and draw order
        "draws": pl.Int32,  # templates x draws: the denominator of the rate
        "rate": pl.Float64,  # R: share of the draws that state an answer, in [0, 1]
        "level": pl.Int8,  # 0..4, see levels.py
    },
    remedy=MAKE_ONE,
)


def with_levels(hits: pl.DataFrame) -> pl.DataFrame:
    """Return columns of `MASTERY` from (fact_id, hits), sorted by fact_id."""
    # The inner lists are all of one length for a fact, so a plain sum of sums counts the hits.
    right = pl.col("hits").list.eval(pl.element().list.sum()).list.sum()
    drawn = pl.col("hits").list.eval(pl.element().list.len()).list.sum()
    return (
        hits.with_columns(draws=drawn.cast(pl.Int32), right=right)
        .with_columns(
            rate=pl.col("right") / pl.col("draws"),
            level=level_column(pl.col("right"), pl.col("draws")),
        )
        .select(list(MASTERY.columns))
        .sort("fact_id")
    )


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
        """Digest of what the levels are: model, facts, templates, settings, and every hit."""
        keys = ("model_digest", "facts_digest", "templates_digest", "settings")
        made_of = digest_of({key: self.record.get(key) for key in keys})
        rows = self.frame.select("fact_id", "hits").iter_rows()
        return digest_of_lines([made_of, *(digest_of(list(row)) for row in rows)])

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
        levelled = with_levels(card.frame.select("fact_id", "hits"))
        if card.digest != record.get("digest") or not levelled.equals(card.frame):
            raise SftbenchError(
                "the rows are not those that this card was written with",
                where=path,
                remedy=MAKE_ONE,
            )
        return card
