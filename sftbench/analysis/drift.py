"""How the predictions moved: the records of a summary, and the means that they hold.

docs/drift.md has the formulas. All divergences are in nats; intervals are 95 %, facts of one answer
hanging together (`analysis.design`). Positions of a fact are averaged before facts are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl

from sftbench.analysis.design import Design, value_column
from sftbench.analysis.intervals import quantile
from sftbench.analysis.record import Record

if TYPE_CHECKING:
    from sftbench.analysis.design import Floats

By = Literal["form", "kind", "position", "domain", "level", "relation"]
"""What facts or positions are told apart by; domains, levels and relations over the tokens of
answers alone: how a text ends would hide what became of the answer."""
MOST_POSITIONS = 12
"""Positions that have a figure of their own."""
FEWEST = 5
"""Facts that a position must have for one."""
PAPER_LEVEL = 4
"""The level that the paper takes (section 4)."""


class Mean(Record):
    """A mean over facts.

    Attributes:
        value: the mean, nats.
        low: lower bound of its 95 % interval; None where nothing shows how facts vary.
        high: upper bound.
        median: of the facts.
        n: facts.
        clusters: different answers within relations among them.
    """

    value: float
    low: float | None
    high: float | None
    median: float
    n: int
    clusters: int


class DriftRow(Record):
    """How far a variant's predictions lie from the base's, in one form of the texts.

    Attributes:
        by: what `key` is one of; all of the form for "form".
        key: a kind of token, a position, a level or a relation; "" for "form".
        tuned_base: KL(variant || base).
        base_tuned: KL(base || variant).
        covered: mean share of the variant's probability that was compared token by token; None
            where all of it was.
    """

    variant: str
    form: str
    by: By
    key: str
    tuned_base: Mean
    base_tuned: Mean
    covered: float | None = None


class PaperRow(Record):
    """The paper's figure of a variant: ten logits, first predicted token, early answers alone.

    Attributes:
        level: of the facts; None for all levels.
        relation: None for all relations.
        left_out: facts without a figure, since the engine does not show the base's logits of the
            variant's ten tokens: they moved far, and the mean over the others is likely too small.
    """

    variant: str
    level: int | None
    relation: str | None
    kl: Mean
    left_out: int = 0


class DriftResult(Record):
    """How the predictions moved: the part of a summary that `--drift` adds.

    Attributes:
        exact: divergences over the whole vocabulary; else they are lower bounds.
        facts: how many were read.
        own: clozes that hold the base's own completion, the others the canonical answer.
        early: of these, how many state the answer early: the paper's.
        early_within: an answer is early that begins within so many tokens.
        templates: the template of each relation.
        rows: figures of every variant, form and part.
        paper: the paper's figure, by level and relation.
        floor: name of the base read again, if it was: what arithmetic alone does.
        nulls: names of random changes of the fine-tune's size.
        beyond: largest mean probability of tokens that the base does not have.
        seconds: time that reading took.
    """

    exact: bool
    facts: int
    own: int
    early: int
    early_within: int
    templates: dict[str, str]
    rows: tuple[DriftRow, ...]
    paper: tuple[PaperRow, ...]
    floor: str | None
    nulls: tuple[str, ...]
    beyond: float
    seconds: float

    def row(self, variant: str, form: str, by: By = "form", key: str = "") -> DriftRow | None:
        """Return one figure, None where there is none."""
        wanted = (variant, form, by, key)
        return next(
            (one for one in self.rows if (one.variant, one.form, one.by, one.key) == wanted), None
        )

    def paper_row(self, variant: str, level: int | None = PAPER_LEVEL) -> PaperRow | None:
        """Return the paper's figure over all relations, None where no fact has one."""
        wanted = (variant, level, None)
        return next(
            (one for one in self.paper if (one.variant, one.level, one.relation) == wanted), None
        )


def drift_rows(items: pl.DataFrame) -> Iterator[DriftRow]:
    """Yield the figures of every variant and form, whole and in parts.

    Args:
        items: one row for each fact, variant, form and position: fact_id, variant, form, position,
            kind, kl_tuned_base, kl_base_tuned, covered, relation, answer, domain, level.
    """
    for (variant, form), part in items.group_by("variant", "form", maintain_order=True):
        names = (str(variant), str(form))
        yield _row(part, *names, "form", "")
        answers = part.filter(pl.col("kind") == "answer")
        for by in ("kind", "position", "domain", "level", "relation"):
            whole = part if by in ("kind", "position") else answers
            for (key,), those in whole.sort(by).group_by(by, maintain_order=True):
                if by == "position" and not _shown(key, those):
                    continue
                yield _row(those, *names, by, str(key))


def _shown(position: object, those: pl.DataFrame) -> bool:
    return int(str(position)) < MOST_POSITIONS and those["fact_id"].n_unique() >= FEWEST


def _row(part: pl.DataFrame, variant: str, form: str, by: By, key: str) -> DriftRow:
    facts = part.group_by("fact_id", maintain_order=True).agg(
        pl.col("relation", "answer", "level").first(),
        pl.col("kl_tuned_base", "kl_base_tuned", "covered").mean(),
    )
    covered = facts["covered"].mean()
    return DriftRow(
        variant=variant,
        form=form,
        by=by,
        key=key,
        tuned_base=mean_of(facts, "kl_tuned_base"),
        base_tuned=mean_of(facts, "kl_base_tuned"),
        covered=None if covered is None else float(covered),  # type: ignore[arg-type]
    )


def paper_rows(items: pl.DataFrame) -> Iterator[PaperRow]:
    """Yield the paper's figure of every variant: by level, of all levels, and by relation.

    Args:
        items: as for `drift_rows`, with early and paper_kl.
    """
    taken = items.filter(pl.col("early"), pl.col("form") == "cloze", pl.col("position") == 0)
    for (variant,), part in taken.group_by("variant", maintain_order=True):
        name = str(variant)
        for (level,), those in part.sort("level").group_by("level", maintain_order=True):
            yield from _paper(those, name, level=int(str(level)))
        yield from _paper(part, name)
        for (relation,), those in part.sort("relation").group_by("relation", maintain_order=True):
            yield from _paper(those, name, relation=str(relation))
            own = those.filter(pl.col("level") == PAPER_LEVEL)
            yield from _paper(own, name, level=PAPER_LEVEL, relation=str(relation))


def _paper(
    part: pl.DataFrame, variant: str, *, level: int | None = None, relation: str | None = None
) -> Iterator[PaperRow]:
    """Yield the figure of some facts, nothing where none has one."""
    known = part.filter(pl.col("paper_kl").is_not_null())
    if known.height:
        yield PaperRow(
            variant=variant,
            level=level,
            relation=relation,
            kl=mean_of(known, "paper_kl"),
            left_out=part.height - known.height,
        )


def mean_of(facts: pl.DataFrame, column: str) -> Mean:
    """Return the mean of a column over facts, with its clustered t interval.

    Args:
        facts: one row each: fact_id, relation, answer, level, and the column (nats, 0 or more).
        column: its name.
    """
    design = Design.of(facts, by_level=False)
    values = value_column(facts, design, column)
    value = design.mean(values)
    bounds = _bounds(design, values, value)
    return Mean(
        value=value,
        low=bounds[0],
        high=bounds[1],
        median=float(np.median(values)),
        n=design.n,
        clusters=design.clusters,
    )


def _bounds(design: Design, values: Floats, value: float) -> Sequence[float | None]:
    spread = design.spread(values)
    if design.clusters == 1 or np.ptp(values) == 0 or not spread.variance > 0:
        return None, None
    half = quantile(spread.df) * math.sqrt(spread.variance)
    return max(0.0, value - half), value + half
