"""What the table, the trade-off and the compare page hold as data: columns, not rows."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from sftbench.facts.table import DOMAINS
from sftbench_leaderboard.board import Board
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.site.names import labels

SHOWN = (
    "record", "group", "model", "variant", "kind", "base", "suite", "facts", "canonical",
    "parameters", "method", "level", "size", "learning_rate", "update_norm", "removed", "drift",
    "seconds", "training_seconds", "tokens", "base_apart", "made",
)  # fmt: skip
BY_DOMAIN = (
    "rank", "tied", "ranked_score", "retention", "retention_low", "retention_high", "known", "kept",
    "lost", "gained", "gain", "accuracy", "base_accuracy", "forgotten_by_noise",
)  # fmt: skip
DIGITS = 6
"""Significant digits in the pages; the downloads hold all of them."""


def wide(board: Board) -> pl.DataFrame:
    """Return a row for each record: `SHOWN`, then `BY_DOMAIN` as "in_..." and as "out_..."."""
    rows = board.models
    for domain in DOMAINS:
        figures = board.domains.filter(pl.col("domain") == domain).select(
            "record", pl.col(BY_DOMAIN).name.prefix(f"{domain}_")
        )
        rows = rows.join(figures, on="record", how="left", maintain_order="left")
    return rows


def table_data(board: Board, pages: Mapping[str, str]) -> dict[str, Any]:
    """Return what the table shows: the best retention first, as far as nothing else is asked.

    Args:
        board: the board.
        pages: model to its page.
    """
    rows = wide(board).sort(
        "in_rank", "in_ranked_score", "in_retention", "out_retention", "model", "variant",
        descending=[False, True, True, True, False, False], nulls_last=True,
    )  # fmt: skip
    names = [*SHOWN, *(f"{domain}_{one}" for domain in DOMAINS for one in BY_DOMAIN)]
    return {
        "columns": {
            **{name: _packed(rows[name]) for name in names},
            "label": _packed(pl.Series(labels(rows), dtype=pl.String)),
        },
        "pages": [pages[name] for name in rows["model"]],
        "groups": groups_data(board),
    }


def groups_data(board: Board) -> dict[str, dict[str, Any]]:
    """Return each group by its id: what its records have in common."""
    return {
        key: {**group._asdict(), "records": len(places)}
        for key, (group, places) in board.groups.items()
    }


def _packed(column: pl.Series) -> Any:
    """Return a column as JSON: texts that repeat as places in a list of them."""
    if column.dtype.is_float():
        column = column.round_sig_figs(DIGITS)
    if column.dtype == pl.String and column.n_unique() < len(column) / 2:
        texts = sorted({one for one in column if one is not None})
        place = {text: at for at, text in enumerate(texts)}
        return {"texts": texts, "at": [None if one is None else place[one] for one in column]}
    return column.to_list()


def tradeoff_data(board: Board, pages: Mapping[str, str]) -> dict[str, Any]:
    """Return the records that have task figures, each with its gain and its retention."""
    rows = wide(board).join(
        board.tasks.rename({"base": "base_value"}), on="record", how="inner", maintain_order="left"
    )
    rows = rows.filter(pl.col("gain").is_not_null())
    names = [
        "record", "group", "model", "variant", "kind", "method", "size", "task", "metric", "value",
        "base_value", "gain", "stderr", "n",
        *(f"{one}_{name}" for one in DOMAINS for name in
          ("retention", "retention_low", "retention_high")),
    ]  # fmt: skip
    return {
        "columns": {
            **{name: _packed(rows[name]) for name in names},
            "label": _packed(pl.Series(labels(rows), dtype=pl.String)),
        },
        "pages": [pages[name] for name in rows["model"]],
        "groups": groups_data(board),
    }


def compare_data(board: Board, pages: Mapping[str, str], known: Known) -> dict[str, Any]:
    """Return who answered what right in each group, as bits, and what the facts are.

    The bits of a record are those of `numpy.packbits` in base64, in the order of the facts.
    """
    found: dict[str, Any] = {}
    models = board.models
    for key, (_, places) in board.groups.items():
        answers = board.answers[key]
        facts = answers.facts
        rows = models[places]
        found[key] = {
            "facts": {
                **_texts(facts, board.records[places[0]].facts.digest, known),
                "domain": _packed(facts["domain"]),
                "level": facts["level"].to_list(),
                "relation": _packed(facts["relation"]),
                "cluster": facts.select(
                    pl.struct("relation", "answer").rank("dense") - 1
                ).to_series().to_list(),
                "known": _bits(answers.known),
            },
            "records": {
                "record": rows["record"].to_list(),
                "model": _packed(rows["model"]),
                "label": _packed(pl.Series(labels(rows), dtype=pl.String)),
                "page": [pages[name] for name in rows["model"]],
                "right": [_bits(one) for one in answers.right],
            },
        }  # fmt: skip
    return {"groups": groups_data(board), "answers": found}


def _texts(facts: pl.DataFrame, digest: str, known: Known) -> dict[str, list[str]]:
    """Return questions and answers; of facts that are not known, relation in place of question."""
    table = known.fact_set(digest)
    if table is None:
        return {"question": facts["relation"].to_list(), "answer": facts["answer"].to_list()}
    asked = facts.join(
        table.frame.select("fact_id", "question"), on="fact_id", how="left", maintain_order="left"
    )
    question = asked["question"].fill_null(asked["relation"])
    return {"question": question.to_list(), "answer": facts["answer"].to_list()}


def _bits(right: np.ndarray) -> str:
    return base64.b64encode(np.packbits(right).tobytes()).decode()
