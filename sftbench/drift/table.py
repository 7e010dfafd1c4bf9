"""The table of drift: one row for each fact, form and position, and the record beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from sftbench.common.tables import TableSpec

if TYPE_CHECKING:
    from sftbench.drift.texts import Text

DRIFT = TableSpec(
    kind="drift",
    columns={
        "fact_id": pl.String,
        "variant": pl.String,
        "form": pl.String,  # cloze, question
        "position": pl.Int16,  # 0 is the first token that is predicted after the prompt
        "kind": pl.String,  # of the token that stands there: lead-in, answer, end
        "own": pl.Boolean,  # the text is the base's own completion; else the canonical answer
        "early": pl.Boolean,  # the base states the answer by itself, within the first tokens
        "kl_tuned_base": pl.Float64,  # KL(variant || base), nats; a lower bound where `covered` is
        "kl_base_tuned": pl.Float64,  # KL(base || variant), nats
        # The paper's figure, nats: at position 0 of a cloze; null elsewhere, and where the engine
        # does not show the base's logits of the variant's ten most probable tokens.
        "paper_kl": pl.Float64,
        "beyond": pl.Float64,  # the variant's probability of tokens that the base does not have
        # The variant's probability of the tokens that were compared one by one; null where all
        # were, and the divergences are exact.
        "covered": pl.Float64,
    },
    remedy="Make one with `sftbench drift --base B --tuned T -o DIR`.",
)

Row = dict[str, Any]
"""A row of `DRIFT` without the variant."""


def has_paper_kl(text: Text, position: int) -> bool:
    """Return whether the paper's figure is taken there: at the first position of a cloze."""
    return position == 0 and text.form == "cloze"


def row_of(text: Text, position: int, **figures: float | None) -> Row:
    """Return the row of one position; figures that are not given are null.

    Args:
        text: what was read.
        position: place in `text.kinds`.
        figures: the other columns.
    """
    return {
        "fact_id": text.fact_id,
        "form": text.form,
        "position": position,
        "kind": text.kinds[position],
        "own": text.own,
        "early": text.early,
        "paper_kl": None,
        "covered": None,
        **figures,
    }
