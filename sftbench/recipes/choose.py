"""The draw: which facts a recipe trains on, balanced and alike for every user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from sftbench.common.digests import seed_of
from sftbench.common.errors import SftbenchError
from sftbench.recipes.recipe import Recipe

if TYPE_CHECKING:
    from sftbench.facts.table import FactSet
    from sftbench.mastery.card import MasteryCard

Group = tuple[int | None, str]
"""Level (None: not levelled, or level does not count) and relation."""


def choose(facts: FactSet, card: MasteryCard | None, recipe: Recipe) -> pl.DataFrame:
    """Return the facts that the recipe trains on, in the order of the first epoch.

    Facts come from the train split, without those whose flags exclude them. Relations get equal
    numbers, or numbers as equal as the facts allow; so do the levels of a "mixed" recipe, which
    go first where both cannot be had. The draw depends on the recipe's seed and the facts' names
    alone, never on the order of rows, and a smaller size draws a subset of a larger one.

    Returns:
        `recipe.size` rows with the columns of the fact table and `level` (Int8; null where the
        card has no such fact or there is no card). fact_id is unique.

    Raises:
        SftbenchError: the recipe needs a card and there is none, or there are too few facts.
    """
    pool = _pool(facts, card, recipe)
    if pool.height < recipe.size:
        raise _too_few(pool, facts, recipe)
    by_level = recipe.level == "mixed"
    stock: dict[Group, list[str]] = {}
    for fact_id, level, relation in pool.select("fact_id", "level", "relation").iter_rows():
        stock.setdefault((level if by_level else None, relation), []).append(fact_id)
    for names in stock.values():
        names.sort(key=lambda name: (seed_of(recipe.seed, "draw", name), name))
    drawn = _deal(stock, recipe.size, recipe.seed)
    order = epoch_order(drawn, recipe.seed, epoch=0)
    wanted = pl.DataFrame({"fact_id": [drawn[index] for index in order]})
    return wanted.join(pool, on="fact_id", how="left", maintain_order="left").select(pool.columns)


def epoch_order(fact_ids: list[str], seed: int, epoch: int) -> list[int]:
    """Return the positions of `fact_ids` in the order that an epoch (from 0) goes through them.

    The order is a function of seed, epoch and the facts' names, and of no generator's version.
    """
    keys = [(seed_of(seed, "order", epoch, name), name) for name in fact_ids]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _pool(facts: FactSet, card: MasteryCard | None, recipe: Recipe) -> pl.DataFrame:
    rows = facts.scored(domain=recipe.domain, split="train")
    if card is None:
        if recipe.level != "any":
            raise SftbenchError(
                "drawing facts by level needs the base model's mastery card",
                where=f"level {recipe.level}",
                remedy="Name one with --mastery, or draw whatever the level with --level any.",
            )
        return rows.with_columns(pl.lit(None, pl.Int8).alias("level"))
    levels = card.frame.select("fact_id", pl.col("level").cast(pl.Int8))
    rows = rows.join(levels, on="fact_id", how="left", validate="1:1")
    if recipe.level == "any":
        return rows
    levelled = rows.filter(pl.col("level").is_not_null())
    if levelled.is_empty() and not rows.is_empty():
        raise SftbenchError(
            "this mastery card levels none of the facts that a recipe may train on",
            where=card.name,
            remedy="Draw whatever the level with --level any, or make a card of the train split: "
            "`sftbench mastery --split train ...`, and name it with --mastery.",
        )
    if recipe.level == "mixed":
        return levelled
    return levelled.filter(pl.col("level") == recipe.level)


def _deal(stock: Mapping[Group, list[str]], size: int, seed: int) -> list[str]:
    """Take `size` facts one by one: from the level, then the relation, that has the fewest.

    Each list of `stock` is taken from its end and used up. Ties are settled by seeded keys, so
    that the remainder does not always go to the first relations of the alphabet. The result is
    the fair share exactly: a group gets less than another only once it is used up.
    """
    tie = {group: seed_of(seed, "tie", *group) for group in stock}
    level_tie = {level: seed_of(seed, "level", level) for level, _ in stock}
    per_level: Counter[int | None] = Counter()
    per_relation: Counter[str] = Counter()
    per_group: Counter[Group] = Counter()

    def need(group: Group) -> tuple[int, int, int, int, int]:
        level, relation = group
        return (
            per_level[level],
            level_tie[level],
            per_relation[relation],
            per_group[group],
            tie[group],
        )

    left = {group: list(names) for group, names in stock.items() if names}
    drawn: list[str] = []
    while len(drawn) < size:
        group = min(left, key=need)
        drawn.append(left[group].pop())
        if not left[group]:
            del left[group]
        per_level[group[0]] += 1
        per_relation[group[1]] += 1
        per_group[group] += 1
    return drawn


def _too_few(pool: pl.DataFrame, facts: FactSet, recipe: Recipe) -> SftbenchError:
    """Say how many facts of each relation there are, those with none included."""
    found = dict(pool.group_by("relation").len().iter_rows())
    every = facts.scored(domain=recipe.domain, split="train")["relation"].unique().sort()
    counts = ", ".join(f"{name} {found.get(name, 0)}" for name in every) or "no relation at all"
    level = "of any level" if recipe.level in ("mixed", "any") else f"of level {recipe.level}"
    return SftbenchError(
        f"{recipe.size} train facts {level} are asked for and there are {pool.height} ({counts})",
        where=f'facts "{facts.name}", domain {recipe.domain}',
        remedy=f"Ask for at most {pool.height} with --size, or level more facts."
        if pool.height
        else "Choose another --level, or level more facts (the card must hold the train split).",
    )
