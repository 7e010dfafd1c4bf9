"""Two variants of one or two results on the same facts; what cannot be compared is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from sftbench.analysis.evidence import PairResult
from sftbench.analysis.summary import BASE, TUNED
from sftbench.common.errors import SftbenchError
from sftbench.compare.answered import Answered
from sftbench.compare.evidence import pair_result
from sftbench.compare.finished import Finished, read_result

ENGINE_PARTS = {"engine": "engine", "dtype": "number format", "batch_size": "batch size"}
"""What of an engine must agree, by what a person calls it; other versions are only said."""
VERSIONS = ("torch", "transformers", "vllm")


class Named(NamedTuple):
    """A variant of a finished result, and how the user named it."""

    ref: str
    result: Finished
    answered: Answered


def find_variant(ref: str) -> Named:
    """Return the variant that "FOLDER" (its tuned model) or "FOLDER:VARIANT" means.

    Raises:
        SftbenchError: no finished result lies there, or it has no such variant.
    """
    folder, colon, variant = ref.rpartition(":")
    if Path(ref).exists() or not colon:
        folder, variant = ref, TUNED
    result = read_result(Path(folder))
    return Named(ref, result, result.variant(variant))


def compare_variants(first: Named, second: Named) -> PairResult:
    """Return two variants against each other; they may be of different results.

    Raises:
        SftbenchError: they did not answer the same facts by the same prompts and settings, or
            their levels are not those of the same card.
    """
    require_comparable(first, second)
    before, after = (
        one.answered.answers.select("fact_id", pl.col("correct").alias(name))
        for one, name in ((first, "before"), (second, "after"))
    )
    known = first.result.variant(BASE).answers.select("fact_id", known="correct")
    facts = (
        first.result.rows.select(
            "fact_id", "domain", "level", "relation", answer=pl.col("answers").list.first()
        )
        .join(known, on="fact_id")
        .join(before, on="fact_id")
        .join(after, on="fact_id")
    )
    same = first.result.folder == second.result.folder
    names = (
        (first.answered.variant.name, second.answered.variant.name)
        if same
        else (first.ref, second.ref)
    )
    # Against the base itself there is no difference in retention: it is the score.
    return pair_result(facts, "before", "after", known="known", names=names)


def require_comparable(first: Named, second: Named) -> None:
    """Raise unless two variants answered the same facts, levelled alike, by the same settings.

    Raises:
        SftbenchError: it names everything that differs.
    """
    other = [*_settings(first, second), *_prompts(first, second)]
    if other:
        raise SftbenchError(
            f"cannot be compared, since they differ in {', '.join(other)}",
            where=f"{first.ref} and {second.ref}",
            remedy="Compare answers to the same facts, asked alike: run `sftbench compare` on both "
            "models with the same --base, --facts, --mastery, --prompt, --limit and engine.",
        )


def version_notes(first: Named, second: Named) -> list[str]:
    """Return a sentence for each library whose version differs; that alone can flip an answer."""
    mine, theirs = (one.answered.record.get("engine", {}) for one in (first, second))
    return [
        f"{name} {mine[name]} answered for {first.ref}, {name} {theirs[name]} for {second.ref}; "
        "that alone can change an answer."
        for name in VERSIONS
        if name in mine and name in theirs and mine[name] != theirs[name]
    ]


def _settings(first: Named, second: Named) -> list[str]:
    """Return what differs in how the two were asked, each part with both values."""
    mine, theirs = _parts(first), _parts(second)
    return [
        f"{name} ({_short(mine[name])} and {_short(theirs[name])})"
        for name in mine
        if mine[name] != theirs[name]
    ]


def _parts(one: Named) -> Mapping[str, Any]:
    run, engine = one.result.summary.run, one.answered.record.get("engine", {})
    return {
        "base": run.base.digest,
        "fact set": run.facts.digest,
        "facts asked": run.facts.asked_digest,
        "mastery card": run.card.get("digest"),
        "prompt": run.prompt.name,
        "shots": run.prompt.shots,
        "longest answer": run.prompt.max_new_tokens,
        "matching": run.prompt.how,
        **{name: engine.get(key) for key, name in ENGINE_PARTS.items()},
    }


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 32 else text


def _prompts(first: Named, second: Named) -> list[str]:
    """Return what differs in the facts answered and in the exact text of the questions."""
    mine, theirs = first.answered.answers, second.answered.answers
    both = mine.select("fact_id", "prompt_id").join(
        theirs.select("fact_id", "prompt_id"), on="fact_id", suffix="_other"
    )
    if not mine.height == theirs.height == both.height:
        return [f"facts answered ({mine.height:,} and {theirs.height:,}, {both.height:,} in both)"]
    changed = both.filter(pl.col("prompt_id") != pl.col("prompt_id_other"))
    if changed.is_empty():
        return []
    return [
        f"the text of {changed.height:,} of {both.height:,} questions "
        f"(such as that of fact {changed['fact_id'][0]})"
    ]
