"""A side of a gate from a finished comparison: its tuned model, or another of its variants."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from sftbench.analysis.gate import RunName
from sftbench.analysis.summary import BASE
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import Tuned
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.compare.across import ENGINE_NAMES, SAMPLING, SOFTWARE, Named, find_variant
from sftbench.compare.finished import COMPARISON
from sftbench.compare.result import SUMMARY
from sftbench.gate.sides import FACT_COLUMNS, GREEDY, Run, Side, fact_identity
from sftbench.scoring.suite import SUITE

if TYPE_CHECKING:
    from collections.abc import Mapping

MACHINE = ("device", *SOFTWARE)
"""Parts of an engine's record that may differ between machines."""


def comparison_at(ref: str) -> str | None:
    """Return the reference of a comparison, also where `check` wrote it; None if it is none."""
    folder, colon, variant = ref.rpartition(":")
    if Path(ref).exists() or not colon:
        folder, colon, variant = ref, "", ""
    for place in (Path(folder), Path(folder) / COMPARISON):
        if (place / SUMMARY).is_file():
            return f"{place}{colon}{variant}"
    return None


def side_of_comparison(ref: str) -> Side:
    """Return the variant that "FOLDER" (its tuned model) or "FOLDER:VARIANT" means, as a side.

    Raises:
        SftbenchError: the result is broken, has no such variant, or the variant is no model that
            a recipe made.
    """
    named = find_variant(ref)
    if not isinstance(named.answered.variant, Tuned | Restored):
        raise SftbenchError(
            f"is no run of a recipe but {named.answered.variant.name}",
            where=ref,
            remedy="Name the tuned model or a restored variant.",
        )
    result = named.result
    facts = result.rows.with_columns(answer=pl.col("answers").list.first()).select(FACT_COLUMNS)
    answers = named.answered.answers
    return Side(
        name=ref,
        facts=facts.sort("fact_id"),
        base=result.variant(BASE).answers.select("fact_id", right="correct"),
        runs=(
            Run(
                _name(named),
                answers.select("fact_id", right="correct"),
                answers.select("fact_id", said="text"),
            ),
        ),
        identity={
            **fact_identity(
                facts,
                result.rows.select("fact_id", "answers"),
                answers.select("fact_id", "prompt_id"),
            ),
            **_identity(named),
        },
        circumstances=_circumstances(named),
    )


def _name(named: Named) -> RunName:
    summary, variant = named.result.summary, named.answered.variant
    recipe: Mapping[str, Any] = (summary.recipe or {}).get("recipe", {})
    seed = recipe.get("seed")
    without = {name: value for name, value in recipe.items() if name != "seed"}
    record = next(one for one in summary.variants if one.name == variant.name)
    return RunName(
        name=named.ref,
        digest=summary.run.tuned.digest if isinstance(variant, Tuned) else record.variant_id,
        seed=seed if isinstance(seed, int) else None,
        recipe=digest_of(without) if without else None,
        variant=variant.name,
    )


def _identity(named: Named) -> dict[str, str]:
    """Return what must be the same on both sides, by its name."""
    run = named.result.summary.run
    engine = named.answered.record.get("engine", {})
    return {
        "suite": SUITE,
        "prompt": run.prompt.name,
        "shots": str(run.prompt.shots),
        "longest answer": str(run.prompt.max_new_tokens),
        "matching": run.prompt.how,
        "base": run.base.digest,
        "tokenizer of the base": run.base.tokenizer_digest,
        "fact set": run.facts.digest,
        "mastery card": str(run.card.get("digest")),
        "decoding": GREEDY,
        "chat template": "applied" if named.result.summary.chat else "not applied",
        **{
            ENGINE_NAMES.get(key, key): str(engine[key])
            for key in sorted(engine.keys() - {*MACHINE, SAMPLING})
        },
    }


def _circumstances(named: Named) -> dict[str, str]:
    run, engine = named.result.summary.run, named.answered.record.get("engine", {})
    return {
        "tokenizer of the tuned model": run.tuned.tokenizer_digest[:12],
        **{key: str(engine[key]) for key in MACHINE if key in engine},
    }
