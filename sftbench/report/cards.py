"""A mastery card on the terminal: how many facts each level holds, and what it is for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from sftbench.analysis.agreement import Agreement

LEVELS = (0, 1, 2, 3, 4)
SHOWN = ("model_name", "model_digest", "facts_name", "facts_digest", "templates_digest")


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
        caption=f"{card.height:,} facts, {how_of(record)}, {path}",
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


def how_of(record: Mapping[str, Any]) -> str:
    """Return in a word or two how a card was made: "sampled", "estimated by likelihood" ..."""
    estimator = str(record.get("settings", {}).get("estimator", "sampled"))
    return "sampled" if estimator == "sampled" else f"estimated by {estimator}"


def print_record(record: Mapping[str, Any], *, canonical: bool) -> None:
    """Print what a card is of and how it was made, a line each."""
    from rich.console import Console
    from rich.table import Table

    settings = dict(record.get("settings", {}))
    table = Table(box=None, show_header=False)
    rows = {name.replace("_", " "): record.get(name) for name in SHOWN}
    rows["card digest"] = record.get("digest")
    rows["estimator"] = f"{settings.pop('estimator', 'sampled')}" + (
        ", canonical settings" if canonical else ", not the canonical card"
    )
    rows["settings"] = ", ".join(f"{name}={value}" for name, value in sorted(settings.items()))
    chosen = record.get("selection", {})
    limit, split = chosen.get("limit"), chosen.get("split")
    of = f", of the {split} split" if split else ""
    rows["facts chosen"] = ("all" if limit is None else f"{limit:,}, balanced") + of
    engine = dict(record.get("engine", {}))
    rows["engine"] = ", ".join(f"{name} {value}" for name, value in sorted(engine.items()))
    for name, value in rows.items():
        table.add_row(name, str(value))
    Console().print(table)


def print_agreement(found: Agreement, first: str, second: str) -> None:
    """Print how far two cards agree: a line of figures, then levels against levels.

    Args:
        found: what was found.
        first: the estimator of the first card.
        second: that of the second.
    """
    from rich.console import Console

    from sftbench.report.tables import titled

    console = Console()
    middle = "" if found.middle_same is None else f", {found.middle_same:.1%} of the {found.middle}"
    console.print(
        f"{found.same:.1%} of {found.n:,} facts are of the same level{middle}"
        f"{' that are in level 2 to 4 by either' if middle else ''}; weighted kappa "
        f"{_or_dash(found.kappa)}{f', {_or_dash(found.middle_kappa)} of those' if middle else ''}; "
        f"rates differ by {found.bias:+.3f} on average, root mean square {found.distance:.3f}.",
        highlight=False,
    )
    table = titled(
        f"Levels by the first card ({first}) down, by the second ({second}) across",
        "",
        *map(str, LEVELS),
        "first R",
        "second R",
        "bias",
    )
    for row in found.levels:
        counts = found.table[row.level]
        table.add_row(
            f"level {row.level}",
            *(str(count) if count else "." for count in counts),
            f"{row.first:.3f}",
            f"{row.second:.3f}",
            f"{row.bias:+.3f}",
        )
    console.print(table)


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
