"""What a comparison lost, what tells its kinds apart, and which of that lies there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from sftbench.analysis.summary import BASE, TUNED
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import BASE as THE_BASE
from sftbench.checkpoints.variants import Base, Noise, Tuned, Variant
from sftbench.common.digests import digest_of
from sftbench.common.files import read_json, write_json
from sftbench.compare.answered import Answered
from sftbench.loss.again import Again, Purpose
from sftbench.loss.confidence import CONFIDENCE
from sftbench.loss.forms import BUDGET, ENDS, FORM_ANSWERS
from sftbench.mastery.choose import EstimatorName, can_forecast

if TYPE_CHECKING:
    from sftbench.compare.plan import Plan
    from sftbench.engines.protocol import Engine
    from sftbench.mastery.journal import Journal

FOLDER = "loss"
VERSION = 1
"""Counts changes that change what is asked or measured."""
TABLES = {"forms": FORM_ANSWERS, "confidence": CONFIDENCE}
"""What is written of a variant, by the name of its folder."""
MASTERY = "mastery"
ESTIMATOR = "estimator.json"
KINDS_FILE = "kinds.parquet"
FEWEST_TRIES = 50
"""Facts that both models had wrong and are asked in other forms, or as many as were lost."""
MOST_KEPT = 40
"""Facts that both answer and that are measured as the lost ones are."""


@dataclass(frozen=True)
class Losses:
    """What was lost by whom, and where its measurements lie.

    Attributes:
        plan: of the comparison.
        answered: its variants with their answers.
    """

    plan: Plan
    answered: Sequence[Answered]

    @property
    def folder(self) -> Path:
        """Where everything lies."""
        return self.plan.request.out / FOLDER

    @property
    def wanted_at_all(self) -> bool:
        """Whether losses are told apart: asked for, or done in this folder before."""
        return self.plan.request.loss or (self.folder / KINDS_FILE).is_file()

    @property
    def remeasure(self) -> bool:
        """Whether every fact is measured again, before and after: likewise."""
        done = self.folder / MASTERY / f"{THE_BASE.slug}-level.jsonl"
        return self.plan.request.remeasure or done.is_file()

    @cached_property
    def right(self) -> Mapping[str, set[str]]:
        """The fact_ids that each variant answers right, by its name."""
        return {
            one.variant.name: set(one.answers.filter("correct")["fact_id"]) for one in self.answered
        }

    @cached_property
    def losers(self) -> tuple[Variant, ...]:
        """The variants whose losses are told apart: tuned, restored, and one random change."""
        every = [one.variant for one in self.answered]
        noise = [one for one in every if isinstance(one, Noise)][:1]
        return (*(one for one in every if isinstance(one, Tuned | Restored)), *noise)

    @cached_property
    def confident(self) -> tuple[Variant, ...]:
        """The variants whose calibration is shown."""
        every = [one.variant for one in self.answered]
        return tuple(one for one in every if isinstance(one, Base | Tuned | Restored))

    def lost(self, variant: Variant) -> pl.DataFrame:
        """Return the facts that the base answers and the variant does not."""
        gone = self.right[BASE] - self.right[variant.name]
        return self.plan.rows.filter(pl.col("fact_id").is_in(gone))

    def tried(self, variant: Variant) -> pl.DataFrame:
        """Return facts that neither base nor tuned model answers; none for other variants."""
        if not isinstance(variant, Tuned):
            return self.plan.rows.head(0)
        most = max(FEWEST_TRIES, self.lost(variant).height)
        known = self.right[BASE] | self.right[TUNED]
        return _some(self.plan.rows.filter(~pl.col("fact_id").is_in(known)), most)

    def kept(self, variant: Variant) -> pl.DataFrame:
        """Return facts that base and tuned model answer; none for other variants than these."""
        if not isinstance(variant, Base | Tuned):
            return self.plan.rows.head(0)
        known = self.right[BASE] & self.right[TUNED]
        return _some(self.plan.rows.filter(pl.col("fact_id").is_in(known)), MOST_KEPT)

    def key(self, variant: Variant) -> str:
        """Return the digest of all that decides a measurement of a variant."""
        return digest_of(
            {
                "plan": self.plan.key,
                "variant": self.plan.variant_id(variant),
                "templates": self.plan.request.facts.templates_digest,
                "forms": [BUDGET, ENDS],
                "version": VERSION,
            }
        )

    # -- what lies there ----------------------------------------------------------------------

    def forms(self, variant: Variant) -> pl.DataFrame | None:
        """Return the answers in other forms, None unless all that are wanted are there."""
        wanted = pl.concat([self.lost(variant), self.tried(variant)]).select("fact_id")
        frame = self._read("forms", variant)
        if frame is None or wanted.join(frame, on="fact_id", how="anti").height:
            return None
        return frame.join(wanted, on="fact_id", how="semi")

    def confidence(self, variant: Variant) -> pl.DataFrame | None:
        """Return a variant's probabilities of its own answers, None if they are not there."""
        return self._read("confidence", variant)

    def unsaid(self, variant: Variant) -> pl.DataFrame:
        """Return the lost facts that came right in no other form; the forms must be there."""
        frame = self.forms(variant)
        assert frame is not None
        came = set(frame.filter("right")["fact_id"])
        return self.lost(variant).filter(~pl.col("fact_id").is_in(came))

    def wanted(self, variant: Variant, purpose: Purpose) -> pl.DataFrame:
        """Return the facts that are to be measured again for a purpose."""
        rows = self.plan.rows
        if purpose == "level":
            every = self.remeasure and isinstance(variant, Base | Tuned)
            return rows if every else rows.head(0)
        if not isinstance(variant, Base):
            if purpose == "kind":
                return pl.concat([self.unsaid(variant), self.kept(variant)])
            return rows.head(0)
        losers = self.losers if purpose == "kind" else self.losers[:1]
        kept = self.kept(variant) if purpose == "kind" else rows.head(0)
        asked = {
            fact_id for some in (*map(self.unsaid, losers), kept) for fact_id in some["fact_id"]
        }
        return rows.filter(pl.col("fact_id").is_in(asked))

    def again(self, variant: Variant, purpose: Purpose) -> Again:
        """Return how a variant is measured again."""
        request = self.plan.request
        side = 0 if isinstance(variant, Base) else 1
        return Again(request.facts, request.card, self.estimator, purpose, side)

    def journal(self, variant: Variant, purpose: Purpose) -> Journal:
        """Return what was measured of a variant."""
        again = self.again(variant, purpose)
        return again.journal(self.folder / MASTERY, variant.slug, self.key(variant))

    @property
    def estimator(self) -> EstimatorName:
        """What measures mastery again; decided by the first engine, and noted."""
        name: EstimatorName = read_json(self.folder / ESTIMATOR)["estimator"]
        return name

    def decide(self, engine: Engine) -> None:
        """Note which estimator measures, unless that is decided already."""
        path = self.folder / ESTIMATOR
        if not path.is_file():
            name = "likelihood" if can_forecast(engine) else "sampled"
            write_json(path, {"estimator": name})

    def keep(self, kind: str, variant: Variant, frame: pl.DataFrame) -> None:
        """Write a table of a variant, see `TABLES`."""
        TABLES[kind].write(frame, self._path(kind, variant), {"key": self.key(variant)})

    def _read(self, kind: str, variant: Variant) -> pl.DataFrame | None:
        path = self._path(kind, variant)
        if not path.is_file():
            return None
        frame, record = TABLES[kind].read(path)
        return frame if record.get("key") == self.key(variant) else None

    def _path(self, kind: str, variant: Variant) -> Path:
        return self.folder / kind / f"{variant.slug}.parquet"


def _some(rows: pl.DataFrame, most: int) -> pl.DataFrame:
    """Return so many rows at most; their digests alone decide which."""
    order = [str(digest_of(["some", fact_id])) for fact_id in rows["fact_id"]]
    ordered = rows.with_columns(order=pl.Series(order, dtype=pl.String)).sort("order")
    return ordered.head(most).drop("order")
