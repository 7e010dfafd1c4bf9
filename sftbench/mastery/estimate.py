"""Make a mastery card: the seam for estimators, a resumable run, progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from sftbench.common.digests import digest_of, software_versions
from sftbench.common.files import require_free_file
from sftbench.common.progress import progress
from sftbench.engines.protocol import Sampler
from sftbench.facts.table import FactSet
from sftbench.mastery.card import MASTERY, MasteryCard, with_levels
from sftbench.mastery.journal import Journal
from sftbench.mastery.measured import Measured
from sftbench.mastery.select import Split, select, selection_of


class Estimator(Protocol):
    """How mastery is measured; a new one is one file with a class like this."""

    name: str

    def settings(self) -> dict[str, Any]:
        """Return what decides the result, for the card's record and key."""
        ...

    def estimate(
        self,
        engine: Sampler,
        facts: Sequence[Mapping[str, Any]],
        templates: Mapping[str, Sequence[str]],
    ) -> Iterator[Measured]:
        """Yield every fact once, in whatever order it is finished."""
        ...


def make_card(
    engine: Sampler,
    facts: FactSet,
    estimator: Estimator,
    *,
    model_name: str,
    model_digest: str,
    output: Path,
    limit: int | None = None,
    split: Split | None = None,
) -> MasteryCard:
    """Level the facts with a base model and write its card; resumes a run that was stopped.

    Finished facts are kept in ``<output>.journal`` until the card is written.

    Args:
        engine: holds the base model.
        facts: what to level; facts with an excluded flag are left out.
        estimator: how.
        model_name: what people call the model.
        model_digest: digest of its checkpoint.
        output: the card's file.
        limit: level only so many facts, balanced (see `select`).
        split: level the facts of this split alone.

    Raises:
        SftbenchError: `output` exists, or its journal belongs to another run.
    """
    require_free_file(output)
    chosen = select(facts, limit, split)
    record = {
        "model_name": model_name,
        "model_digest": model_digest,
        "facts_name": facts.name,
        "facts_digest": facts.digest,
        "templates_digest": facts.templates_digest,
        "settings": {**estimator.settings(), "dtype": engine.describe().get("dtype", "")},
        "selection": selection_of(limit, split),
        "software": dict(software_versions("sftbench")),
    }
    keys = ("model_digest", "facts_digest", "templates_digest", "settings")
    made_by = {key: record[key] for key in keys}
    # Engines draw alike in distribution, not draw by draw: one card holds the draws of one engine.
    made_by["engine"] = engine.describe().get("engine", "")
    journal = Journal(output.with_name(output.name + ".journal"), digest_of(made_by))
    measure_all(engine, facts, estimator, chosen, journal)
    record["engine"] = dict(engine.describe())  # afterwards: batches that did not fit are halved
    found = [journal.finished[fact_id] for fact_id in chosen["fact_id"]]
    schema = {name: MASTERY.columns[name] for name in Measured._fields}
    card = MasteryCard(with_levels(pl.DataFrame(found, schema, orient="row")), record, output)
    card.write(output)
    journal.remove()
    return card


def measure_all(
    engine: Sampler,
    facts: FactSet,
    estimator: Estimator,
    chosen: pl.DataFrame,
    journal: Journal,
    title: str = "levelling facts",
) -> None:
    """Measure the chosen facts that the journal does not hold yet, and write them into it."""
    todo = [row for row in chosen.iter_rows(named=True) if row["fact_id"] not in journal.finished]
    done = chosen.height - len(todo)
    with journal, progress(title, chosen.height, unit="facts", done=done) as advance:
        for found in estimator.estimate(engine, todo, facts.templates):
            journal.add(found)
            advance(1)
