"""What things are called on the site: pages, variants, and models that share a name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sftbench.report.rule_names import Rule, parse
from sftbench.report.words import rule_label
from sftbench_leaderboard.board import Board
from sftbench_leaderboard.groups import SHORT

if TYPE_CHECKING:
    import polars as pl


def pages_of(board: Board) -> dict[str, str]:
    """Return the page of each model, below ``models/``: names that no file system confuses."""
    pages: dict[str, str] = {}
    taken: set[str] = set()
    for name in board.models["model"].unique(maintain_order=True):
        plain = name.replace("/", "__")
        page, again = plain, 1
        while page.lower() in taken:
            again += 1
            page = f"{plain}~{again}"
        taken.add(page.lower())
        pages[name] = f"{page}.html"
    return pages


def rule_of(variant: str) -> Rule | None:
    """Return the rule of a restored variant, None of the tuned model."""
    return parse(variant.removeprefix("tuned+restore(").removesuffix(")"))


def variant_label(variant: str) -> str:
    """Return a variant's name as the report shows it: "tuned", "restored 5 %"."""
    rule = rule_of(variant)
    return variant if rule is None else rule_label(rule)


def labels(models: pl.DataFrame) -> Sequence[str | None]:
    """Return what follows a model's name to tell its records apart.

    It is the restore, and part of the record's id where another record of the group has the same
    name: two revisions, or what another submitter sent in; None where nothing need follow.

    Args:
        models: columns of `sftbench_leaderboard.board.MODELS`.
    """
    rows = models.select("group", "model", "variant", "record").rows()
    named = Counter(row[:3] for row in rows)
    found: list[str | None] = []
    for *name, record in rows:
        variant = "" if name[2] == "tuned" else variant_label(name[2])
        twice = f"#{record[:SHORT]}" if named[tuple(name)] > 1 else ""
        found.append(" ".join(filter(None, (variant, twice))) or None)
    return found
