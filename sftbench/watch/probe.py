"""The probe set: facts that the base answers right, and what of them a model still answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from sftbench.analysis.design import Design
from sftbench.analysis.estimates import Estimate, floats, share
from sftbench.common.errors import SftbenchError
from sftbench.facts.matching import is_right
from sftbench.facts.prompts import PROMPTS
from sftbench.facts.table import DOMAINS
from sftbench.scoring.balance import in_turn

if TYPE_CHECKING:
    from sftbench.engines.protocol import Engine
    from sftbench.watch.stop import Schedule

PROMPT = PROMPTS["fewshot"]
MOST_ASKED = 4
"""Facts that the base is asked at most, for each fact of the probe set that is wanted."""
LEAST_ROUND = 32
"""Facts that the base is asked at once, at least: two batches cost little more than one fact."""

Ask = Callable[[pl.DataFrame], Sequence[bool]]
"""Facts (with the text that each is asked with) to whether each was answered right."""


def ask(engine: Engine, rows: pl.DataFrame) -> list[bool]:
    """Return whether each fact is answered right: greedily, as everywhere else.

    Args:
        engine: holds the model.
        rows: answers, and text: what each fact is asked with.
    """
    said = engine.greedy(
        rows["text"].to_list(), max_new_tokens=PROMPT.max_new_tokens, stop=PROMPT.stop
    )
    return [
        is_right(one.text, answers, PROMPT.how)
        for one, answers in zip(said, rows["answers"].to_list(), strict=True)
    ]


@dataclass(frozen=True)
class ProbeSet:
    """Facts that the base answers right; a probe asks them all.

    Attributes:
        rows: fact_id, relation, domain, level (1..4), answers, answer (canonical) and text (what
            the fact is asked with), sorted by fact_id.
    """

    rows: pl.DataFrame

    @cached_property
    def designs(self) -> Mapping[str, Design]:
        """The design of each domain that has facts."""
        parts = {name: self.rows.filter(pl.col("domain") == name) for name in DOMAINS}
        return {name: Design.of(part) for name, part in parts.items() if part.height}

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many facts each domain has, 0 included."""
        found = self.rows["domain"].to_list()
        return {name: found.count(name) for name in DOMAINS}

    def retention(self, right: Sequence[bool]) -> dict[str, Estimate]:
        """Return the retention score of each domain: the mean over levels of the share kept.

        Args:
            right: whether each fact is still answered right, in the order of `rows`.
        """
        kept = self.rows.select("domain").with_columns(right=pl.Series(right, dtype=pl.Boolean))
        # A design is in the order of fact_id, and so are the rows.
        return {
            name: share(design, floats(kept.filter(pl.col("domain") == name)["right"]))
            for name, design in self.designs.items()
        }


def known_by(ask: Ask, levelled: pl.DataFrame, wanted: int) -> ProbeSet:
    """Return the probe set: facts that the base answers right, balanced over level and domain.

    The base is asked in rounds, each for as many facts as are still wanted, until there are
    enough, `MOST_ASKED` times as many were asked, or no fact is left.

    Args:
        ask: asks the base.
        levelled: test facts of the levels 1..4: the columns of `ProbeSet`.
        wanted: size of the probe set.

    Raises:
        SftbenchError: the base answers none of them right.
    """
    order = in_turn(levelled).head(MOST_ASKED * wanted)
    known = order.clear()
    done = 0
    while done < order.height and known.height < wanted:
        part = order.slice(done, max(LEAST_ROUND, wanted - known.height))
        right = pl.Series(ask(part), dtype=pl.Boolean)
        known = pl.concat([known, part.filter(right)])
        done += part.height
    if known.is_empty():
        raise SftbenchError(
            f"the base answers none of {done} levelled facts right, so there is nothing that "
            "training could lose",
            where="base",
            remedy="Look whether base, facts and mastery card belong together, or level other "
            "facts with `sftbench mastery`.",
        )
    return ProbeSet(in_turn(known).head(wanted).sort("fact_id"))


def require_stoppable(probes: ProbeSet, schedule: Schedule) -> None:
    """Raise unless the rule could stop a run that forgets all that is asked.

    Raises:
        SftbenchError: there are no in-domain facts, or too few for the bound to get below.
    """
    below = schedule.stop_below
    if below is None:
        return
    size = probes.sizes["in"]
    nothing_kept = probes.retention([False] * probes.rows.height)
    if size and nothing_kept["in"].high < below:
        return
    raise SftbenchError(
        f"the base answers {size} in-domain facts right, too few to show that retention is below "
        f"{below:.0%}, even if all were lost",
        where="stop_below",
        remedy="Raise probes, level more in-domain facts with `sftbench mastery`, or leave "
        "stop_below out to watch only.",
    )
