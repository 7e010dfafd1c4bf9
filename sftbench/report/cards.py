"""A mastery card on the terminal: how many facts each level holds, and what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

LEVELS = (0, 1, 2, 3, 4)


def print_card(
    record: Mapping[str, Any], card: pl.DataFrame, facts: pl.DataFrame, path: Path
) -> None:
    """Print level counts per domain and split.

    Args:
        record: the card's record.
        card: columns fact_id and level.
        facts: columns fact_id, domain and split.
        path: the card's file.
    """
    from rich.console import Console
    from rich.table import Table

    rows = card.join(facts.select("fact_id", "domain", "split"), on="fact_id")
    table = Table(
        title=f"What {record['model_name']} knows of {record['facts_name']}",
        caption=f"{card.height} facts, {path}",
    )
    table.add_column("facts")
    for level in LEVELS:
        table.add_column(f"level {level}", justify="right")
    table.add_column("mean R", justify="right")
    for domain, split in sorted(rows.select("domain", "split").unique().iter_rows()):
        group = rows.filter(domain=domain, split=split)
        counted = dict(group.group_by("level").len().iter_rows())
        mean = group.select(pl.col("rate").mean()).item()
        table.add_row(
            f"{domain} / {split}",
            *(str(counted.get(level, 0)) for level in LEVELS),
            f"{mean:.3f}",
        )
    Console().print(table)
