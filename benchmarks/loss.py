"""What any credible fall would call a loss of knowledge: the table of docs/loss.md.

    sftbench finetune --base lab --facts lab --level 0 --size 50 --epochs 4 --lr 1e-3 -o out/tuned
    sftbench compare --base lab --tuned out/tuned --facts lab --noise 1 --loss -o out/loss
    python benchmarks/loss.py out/loss

Of the facts that a variant lost, and of those that both models answer: how many were measured
again, how many are credibly less known at all, how many of these by a tenth at most, and how many
by a quarter or more, which is what counts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from sftbench.analysis.kinds import Rate, change, is_lower
from sftbench.checkpoints.variants import BASE, TUNED, parse_variant
from sftbench.compare.losses import FOLDER, KINDS_FILE, MASTERY
from sftbench.loss.again import rate_of
from sftbench.mastery.measured import from_json

LITTLE = 0.1
"""Part of the base's rate."""


def main() -> None:
    """Print a row for the losses of each variant, and one for the facts that both answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="folder of a comparison with --loss")
    folder = parser.parse_args().result / FOLDER
    told = pl.read_parquet(folder / KINDS_FILE)
    before = measured(folder / MASTERY / f"{BASE.slug}-kind.jsonl")
    for name in told["variant"].unique(maintain_order=True):
        lost = told.filter(pl.col("variant") == name, pl.col("kind") != "format")
        # The rows of the base are the tuned model's losses, with the base in its place.
        purpose = "itself" if name == BASE.name else "kind"
        after = measured(folder / MASTERY / f"{parse_variant(name).slug}-{purpose}.jsonl")
        print(row(name, [(before[one], after[one]) for one in lost["fact_id"]]))
    gone = set(told.filter(pl.col("variant") == TUNED.name)["fact_id"])
    after = measured(folder / MASTERY / f"{TUNED.slug}-kind.jsonl")
    kept = [(before[one], rate) for one, rate in after.items() if one not in gone]
    print(row("answered by both", kept))


def measured(path: Path) -> dict[str, Rate]:
    """Return the rate of each finished fact of a journal; its first line says what made it."""
    _, *entries = path.read_text(encoding="utf-8").splitlines()
    found = [from_json(json.loads(entry)) for entry in entries]
    return {one.fact_id: rate_of(one) for one in found}


def row(title: str, pairs: Sequence[tuple[Rate, Rate]]) -> str:
    """Return how many facts there are, and how many fell credibly, a little and by what counts."""
    fallen = [(old, new) for old, new in pairs if change(old, new).high < 0]
    little = sum(new.value >= (1 - LITTLE) * old.value for old, new in fallen)
    counted = sum(is_lower(old, new) for old, new in pairs)
    return f"| {title} | {len(pairs)} | {len(fallen)} | {little} | {counted} |"


if __name__ == "__main__":
    main()
