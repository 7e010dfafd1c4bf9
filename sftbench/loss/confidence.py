"""How probable a model finds its own answers: what calibration is measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from sftbench.common.tables import TableSpec
from sftbench.engines.following import following
from sftbench.scoring.answers import batched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sftbench.engines.protocol import Advance, Engine

AT_ONCE = 4096
"""Answers that are sent at a time."""

CONFIDENCE = TableSpec(
    kind="confidence",
    columns={
        "fact_id": pl.String,
        "variant": pl.String,
        # Nats, summed over the tokens of the greedy answer as it stands in the answers table;
        # null for an empty answer, which has no probability of its own.
        "own_logprob": pl.Float64,
        "own_tokens": pl.Int32,
    },
    remedy="Make one with `sftbench compare --loss`.",
)


def own_confidence(
    engine: Engine,
    answers: pl.DataFrame,
    texts: Sequence[str],
    *,
    chat: bool = False,
    advance: Advance | None = None,
) -> pl.DataFrame:
    """Return the log-probability of each greedy answer; columns as in `CONFIDENCE`.

    What ends an answer (a line break, end of text) does not count: answers are compared, not
    the habit of ending them.

    Args:
        engine: holds the variant's weights.
        answers: its answers table, columns as in `sftbench.scoring.answers.ANSWERS`.
        texts: what each fact was asked with, in the same order.
        chat: they end where a turn begins, after which no space is missing.
        advance: called once for each fact.
    """
    spoken = [own or "" if chat else following(engine, own or "") for own in answers["text"]]
    pairs = list(zip(texts, spoken, strict=True))
    said = [pair for pair in pairs if pair[1].strip()]
    if advance is not None:
        advance(len(pairs) - len(said))
    scored = iter(
        [one for part in batched(said, AT_ONCE) for one in engine.logprobs(part, advance=advance)]
    )
    found = [next(scored) if own.strip() else None for _, own in pairs]
    frame = answers.select("fact_id", "variant").with_columns(
        own_logprob=pl.Series([one and one.logprob for one in found], dtype=pl.Float64),
        own_tokens=pl.Series([one and one.tokens for one in found], dtype=pl.Int32),
    )
    return CONFIDENCE.conform(frame)
