"""Several runs of one recipe: each a finished comparison, laid side by side on the same facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from sftbench.analysis.design import Design, value_column
from sftbench.analysis.evidence import RunsRecord
from sftbench.analysis.record import Record
from sftbench.analysis.seeds import FEW_RUNS, OverRuns, difference_over_runs, share_over_runs
from sftbench.analysis.summary import BASE
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import Tuned
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.compare.across import Named, base_flips, require_comparable, version_notes
from sftbench.facts.table import DOMAINS

SEED = "seed"


class SeedsDomain(Record):
    """Several runs in one domain.

    Attributes:
        domain: "in" or "out".
        retention: the knowledge-retention score; None where the base knows nothing.
        macro: unweighted mean over levels of the accuracy.
        change: macro minus that of the base.
    """

    domain: str
    retention: RunsRecord | None
    macro: RunsRecord
    change: RunsRecord


class SeedsResult(Record):
    """Several runs of one recipe on the same facts: fractions, 95 % intervals.

    Attributes:
        runs: how each was named, in order.
        seeds: the seed of each; None where its recipe is not known.
        recipe: what all of them share; None where a recipe is not known.
        recipe_digest: digest of `recipe`.
        warnings: what a reader must know, one sentence each.
    """

    runs: tuple[str, ...]
    seeds: tuple[int | None, ...]
    recipe: dict[str, Any] | None
    recipe_digest: str | None
    domains: tuple[SeedsDomain, ...]
    warnings: tuple[str, ...]


def seeds_result(runs: Sequence[Named]) -> SeedsResult:
    """Return what several runs of one recipe have in common and how they vary.

    Raises:
        SftbenchError: fewer than two runs, two of the same model, runs of different recipes, or
            answers to other facts, prompts or settings.
    """
    if len(runs) < 2:
        raise SftbenchError(
            "one run says nothing of how runs vary", remedy="Name the results of two or more seeds."
        )
    _require_runs(runs)
    for one in runs[1:]:
        require_comparable(runs[0], one)
    recipe = _shared_recipe(runs)
    facts = runs[0].result.rows.select(
        "fact_id", "domain", "level", "relation", answer=pl.col("answers").list.first()
    )
    present = [domain for domain in DOMAINS if domain in set(facts["domain"])]
    return SeedsResult(
        runs=tuple(one.ref for one in runs),
        seeds=tuple(_recipe_of(one).get(SEED) for one in runs),
        recipe=recipe,
        recipe_digest=None if recipe is None else digest_of(recipe),
        domains=tuple(
            _domain(domain, facts.filter(pl.col("domain") == domain), runs) for domain in present
        ),
        warnings=tuple(_warnings(runs, recipe)),
    )


def _domain(domain: str, facts: pl.DataFrame, runs: Sequence[Named]) -> SeedsDomain:
    design = Design.of(facts)
    base = value_column(runs[0].result.variant(BASE).answers, design, "correct")
    right = np.stack([value_column(one.answered.answers, design, "correct") for one in runs])
    known = facts.sort("fact_id").filter(pl.Series(base > 0), pl.col("level") > 0)
    return SeedsDomain(
        domain=domain,
        retention=None if known.is_empty() else _record(_retention(known, runs)),
        macro=_record(share_over_runs(design, right)),
        change=_record(difference_over_runs(design, base[None, :], right)),
    )


def _retention(known: pl.DataFrame, runs: Sequence[Named]) -> OverRuns:
    design = Design.of(known)
    kept = np.stack([value_column(one.answered.answers, design, "correct") for one in runs])
    return share_over_runs(design, kept)


def _record(found: OverRuns) -> RunsRecord:
    return RunsRecord.model_validate(found)


def _recipe_of(one: Named) -> Mapping[str, Any]:
    record = one.result.summary.recipe
    return {} if record is None else dict(record["recipe"])


def _shared_recipe(runs: Sequence[Named]) -> dict[str, Any] | None:
    """Return the recipe without its seed; None if that of a run is not known.

    Raises:
        SftbenchError: the recipes differ in more than the seed.
    """
    recipes = [dict(_recipe_of(one)) for one in runs]
    if not all(recipes):
        return None
    names = sorted({name for one in recipes for name in one} - {SEED})
    other = [name for name in names if len({str(one.get(name)) for one in recipes}) > 1]
    if other:
        raise SftbenchError(
            f"are runs of different recipes: they differ in {', '.join(other)}",
            where=", ".join(one.ref for one in runs),
            remedy="Name runs that differ in nothing but the seed.",
        )
    return {name: value for name, value in recipes[0].items() if name != SEED}


def _require_runs(runs: Sequence[Named]) -> None:
    """Raise unless each is a fine-tune of its own, and all are treated alike."""
    names = [one.answered.variant.name for one in runs]
    for one in runs:
        if not isinstance(one.answered.variant, Tuned | Restored):
            raise SftbenchError(
                f"{one.ref} is no run of a recipe but {one.answered.variant.name}",
                remedy="Name tuned models, or the same restore of each.",
            )
    if len(set(names)) > 1:
        raise SftbenchError(
            f"are not the same variant: {', '.join(dict.fromkeys(names))}",
            where=", ".join(one.ref for one in runs),
            remedy="Name the tuned model of each run, or the same restore of each.",
        )
    models = [one.result.summary.run.tuned.digest for one in runs]
    _require_different(runs, models, "the same model")
    known = [seed for one in runs if (seed := _recipe_of(one).get(SEED)) is not None]
    if len(known) == len(runs):
        _require_different(runs, known, "runs of the same seed")


def _require_different(runs: Sequence[Named], values: Iterable[object], what: str) -> None:
    seen: dict[object, str] = {}
    for one, value in zip(runs, values, strict=True):
        if value in seen:
            raise SftbenchError(
                f"{one.ref} and {seen[value]} are {what}",
                remedy="Name every run once, each with a seed of its own.",
            )
        seen[value] = one.ref


def _warnings(runs: Sequence[Named], recipe: Mapping[str, Any] | None) -> list[str]:
    found = []
    if len(runs) < FEW_RUNS:
        found.append(
            f"{len(runs)} runs hardly show how much runs vary, and so the 95 % intervals are wide "
            "(docs/statistics.md). Three or more are better."
        )
    if recipe is None:
        found.append(
            "Not every run has a recipe record, so nothing shows that they are runs of one recipe."
        )
    found += [note for one in runs[1:] if (note := base_flips(runs[0], one))]
    found += [note for one in runs[1:] for note in version_notes(runs[0], one)]
    return found
