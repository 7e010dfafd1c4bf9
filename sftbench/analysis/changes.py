"""What changed fact by fact: lost, gained, and healed by a restore."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from sftbench.analysis.pairs import Counts, count

FACT_COLUMNS = ("fact_id", "domain", "level", "rate", "relation", "answer")


class Repair(NamedTuple):
    """What a restore did to the facts by what the fine-tune had done to them: counts.

    Attributes:
        lost: base right, tuned wrong.
        healed: of `lost`, right again in the restored variant.
        gained: base wrong, tuned right.
        preserved: of `gained`, still right in the restored variant.
        kept: base right, tuned right.
        undamaged: of `kept`, still right in the restored variant.
    """

    lost: int
    healed: int
    gained: int
    preserved: int
    kept: int
    undamaged: int


def wide(items: pl.DataFrame) -> pl.DataFrame:
    """Return one row per fact: what is known of it, and one Boolean column per variant.

    Returns:
        fact_id, domain, level, rate, relation, answer (those of them that `items` has), and the
        variants, sorted by fact_id.
    """
    known = [name for name in FACT_COLUMNS if name in items.columns]
    return items.pivot(on="variant", index=known, values="correct").sort("fact_id")


def outcomes(facts: pl.DataFrame, base: str, variant: str) -> Counts:
    """Return what became of the facts of a `wide` table between two of its variants."""
    return count(facts[base].to_numpy(), facts[variant].to_numpy())


def repair(facts: pl.DataFrame, base: str, tuned: str, restored: str) -> Repair:
    """Return what a restore did, from a `wide` table that holds the three variants."""
    before, after, again = facts[base], facts[tuned], facts[restored]
    lost, gained, kept = before & ~after, ~before & after, before & after
    return Repair(
        lost=int(lost.sum()),
        healed=int((lost & again).sum()),
        gained=int(gained.sum()),
        preserved=int((gained & again).sum()),
        kept=int(kept.sum()),
        undamaged=int((kept & again).sum()),
    )


def lost_facts(
    items: pl.DataFrame, base: str, tuned: str, restored: Sequence[str] = ()
) -> pl.DataFrame:
    """Return the facts that the base answers right and the tuned model wrong, most telling first.

    Most telling is what the base knew best: the highest mastery rate first, then the largest
    fall of the answer's log-probability.

    Args:
        items: one row per fact and variant: fact_id, variant, relation, question, answer,
            domain, level, rate, correct, text, answer_logprob.
        base: name of the base variant.
        tuned: name of the tuned variant.
        restored: names of the restored variants, in the order to name them.

    Returns:
        fact_id, domain, relation, level, rate, question, answer, base_text, tuned_text,
        base_logprob, tuned_logprob (nats), healed_by (names of the restored variants that
        answer it right).
    """
    lost = _side_by_side(items, base, tuned).filter(
        pl.col("base_correct") & ~pl.col("tuned_correct")
    )
    fall = pl.col("base_logprob") - pl.col("tuned_logprob")
    ranked = lost.sort("rate", fall, "fact_id", descending=[True, True, False])
    return _with_right_in(ranked, items, restored, "healed_by")


def gained_facts(
    items: pl.DataFrame, base: str, tuned: str, restored: Sequence[str] = ()
) -> pl.DataFrame:
    """Return the facts that the base answers wrong and the tuned model right, most telling first.

    Most telling is what the base knew least: the lowest mastery rate first, then the largest
    rise of the answer's log-probability.

    Args:
        items: as for `lost_facts`.
        base: name of the base variant.
        tuned: name of the tuned variant.
        restored: names of the restored variants, in the order to name them.

    Returns:
        the columns of `lost_facts`, with preserved_by in place of healed_by.
    """
    gained = _side_by_side(items, base, tuned).filter(
        ~pl.col("base_correct") & pl.col("tuned_correct")
    )
    rise = pl.col("tuned_logprob") - pl.col("base_logprob")
    ranked = gained.sort("rate", rise, "fact_id", descending=[False, True, False])
    return _with_right_in(ranked, items, restored, "preserved_by")


def _side_by_side(items: pl.DataFrame, base: str, tuned: str) -> pl.DataFrame:
    """Return one row per fact with what base and tuned said of it."""
    said = {"correct": "correct", "text": "text", "answer_logprob": "logprob"}
    before = items.filter(pl.col("variant") == base).rename(
        {name: f"base_{short}" for name, short in said.items()}
    )
    after = items.filter(pl.col("variant") == tuned).select(
        "fact_id", *(pl.col(name).alias(f"tuned_{short}") for name, short in said.items())
    )
    return before.join(after, on="fact_id")


def _with_right_in(
    facts: pl.DataFrame, items: pl.DataFrame, restored: Sequence[str], column: str
) -> pl.DataFrame:
    """Return the facts in their order with the restored variants that answer each right."""
    right = _right_in(items, restored).rename({"right_in": column})
    return facts.join(right, on="fact_id", how="left", maintain_order="left").select(
        "fact_id", "domain", "relation", "level", "rate", "question", "answer",
        "base_text", "tuned_text", "base_logprob", "tuned_logprob",
        pl.col(column).fill_null([]),
    )  # fmt: skip


def _right_in(items: pl.DataFrame, restored: Sequence[str]) -> pl.DataFrame:
    """Return fact_id and the restored variants that answer it right, in the order given."""
    order = pl.DataFrame(
        {"variant": list(restored), "place": range(len(restored))},
        schema={"variant": pl.String, "place": pl.Int64},
    )
    right = items.filter(pl.col("correct")).join(order, on="variant")
    return right.group_by("fact_id").agg(right_in=pl.col("variant").sort_by("place"))
