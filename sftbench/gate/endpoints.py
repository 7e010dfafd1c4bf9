"""Endpoints: the figures that a gate holds a candidate to, and the facts that each rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl

from sftbench.analysis.design import Design
from sftbench.common.errors import SftbenchError
from sftbench.facts.table import DOMAINS
from sftbench.scoring.retention import LEVELS, SCORED_LEVELS

Figure = Literal["retention", "accuracy"]
DEFAULT = "retention:in"
LEVEL = "level"


@dataclass(frozen=True)
class Endpoint:
    """One figure.

    Attributes:
        figure: "retention" (of the facts of level 1 to 4 that the base answers right, the mean
            over levels of the share answered right) or "accuracy" (of all facts, likewise).
        domain: "in" or "out".
        level: of this level alone; None for the mean over levels.
    """

    figure: Figure
    domain: str
    level: int | None = None

    @property
    def name(self) -> str:
        """Such as "retention:in" or "retention:in:level2"."""
        parts = [self.figure, self.domain]
        return ":".join(parts if self.level is None else [*parts, f"{LEVEL}{self.level}"])

    def facts(self, known: pl.DataFrame) -> pl.DataFrame:
        """Return the facts that the figure rests on.

        Args:
            known: fact_id, domain, level, relation, answer, base (Boolean, or null where the base's
                answers are not known).
        """
        rows = known.filter(pl.col("domain") == self.domain)
        if self.figure == "retention":
            rows = rows.filter(pl.col("base"), pl.col("level").is_in(SCORED_LEVELS))
        return rows if self.level is None else rows.filter(pl.col("level") == self.level)

    def design(self, known: pl.DataFrame) -> Design | None:
        """Return the design of those facts; None where there are none."""
        rows = self.facts(known)
        return None if rows.is_empty() else Design.of(rows)


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint that a name means.

    Raises:
        SftbenchError: there is no such endpoint.
    """
    figure, _, rest = text.partition(":")
    domain, _, level = rest.partition(":")
    number = level.removeprefix(LEVEL)
    levels = SCORED_LEVELS if figure == "retention" else LEVELS
    known = not level or (level != number and number in set(map(str, levels)))
    if figure not in get_args(Figure) or domain not in DOMAINS or not known:
        raise SftbenchError(
            f"there is no endpoint {text!r}",
            remedy="An endpoint is retention or accuracy of a domain, in or out, and perhaps of "
            "one level: retention:in, accuracy:out, retention:in:level4.",
        )
    return Endpoint(figure, domain, int(number) if level else None)  # type: ignore[arg-type]


def all_endpoints(known: pl.DataFrame) -> list[Endpoint]:
    """Return every endpoint that has facts: domains, then retention by level; see `facts`."""
    whole = [Endpoint(figure, domain) for figure in get_args(Figure) for domain in DOMAINS]
    parts = [Endpoint("retention", domain, level) for domain in DOMAINS for level in SCORED_LEVELS]
    return [one for one in (*whole, *parts) if not one.facts(known).is_empty()]
