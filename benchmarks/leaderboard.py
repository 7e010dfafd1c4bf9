"""How a leaderboard grows: time and memory to aggregate results, to rank models, to build the site.

    python benchmarks/leaderboard.py aggregate --records 10000 --facts 1000
    python benchmarks/leaderboard.py ranks --models 300 --facts 1000

The results are made up: records of one base in groups of 300, each with items of its own, whose
models keep 40 to 95 % of what the base knows. `aggregate` runs in a process of its own, so that
its peak of memory is that of nothing else. Validation is timed apart, on a few of the records: it
is made once for each (`sftbench_leaderboard.receipts`).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sftbench_leaderboard.board import Board
from sftbench_leaderboard.headline import figures_of
from sftbench_leaderboard.items import ITEMS, sha256_of
from sftbench_leaderboard.layout import items_beside, place_of
from sftbench_leaderboard.record import KIND, SCHEMA_VERSION, LeaderboardRecord
from sftbench_leaderboard.validate import parse_accepted

from sftbench.checkpoints.variants import Tuned
from sftbench.common.digests import digest_of, digest_of_lines
from sftbench.common.files import write_json
from sftbench.facts.prompts import PROMPTS
from sftbench.scoring.suite import SUITE

IN_GROUP = 300
RELATIONS = 12
ANSWERS = 20
"""Answers of a relation, which its facts share."""


def made_items(facts: int, base: int, seed: int) -> pl.DataFrame:
    """Return made-up items: columns of `ITEMS`; facts and base are the same for all seeds."""
    fixed, own = np.random.default_rng(base), np.random.default_rng([base, seed])
    relation = fixed.integers(0, RELATIONS, facts)
    level = fixed.integers(0, 5, facts)
    right = fixed.random(facts) < 0.2 + 0.15 * level
    keeps, gains = own.uniform(0.4, 0.95), own.uniform(0.02, 0.1)
    after = own.random(facts) < np.where(right, keeps, gains)
    text = [f"answer {one}" for one in fixed.integers(0, ANSWERS, facts)]
    return ITEMS.conform(
        pl.DataFrame({
            "fact_id": sorted(digest_of([base, at])[:16] for at in range(facts)),
            "relation": [f"relation_{one}" for one in relation],
            "domain": ["in" if one < RELATIONS / 2 else "out" for one in relation],
            "level": level, "rate": level / 4, "answer": text,
            "base_text": text, "base_correct": right, "base_logprob": -fixed.random(facts),
            "text": text, "correct": after, "logprob": -own.random(facts),
            "noise": pl.Series([[]] * facts, dtype=pl.List(pl.Boolean)),
        })
    )  # fmt: skip


def made_results(folder: Path, records: int, facts: int, distinct: int) -> None:
    """Write so many records; so many have figures of their own, the others share them."""
    kinds = [_made(facts, seed) for seed in range(min(distinct, records))]
    for at in range(records):
        items, fields = kinds[at % len(kinds)]
        _write(folder, _named(fields, at), items)


def _made(facts: int, seed: int) -> tuple[pl.DataFrame, dict[str, Any]]:
    items = made_items(facts, 0, seed)
    found = figures_of(items)
    digest = digest_of("card")
    return items, {
        "schema_version": SCHEMA_VERSION, "kind": KIND,
        "suite": {
            "name": "made-up-fewshot", "version": SUITE, "prompt": "fewshot", "chat": False,
            "shots": PROMPTS["fewshot"].shots, "matching": PROMPTS["fewshot"].how,
            "max_new_tokens": PROMPTS["fewshot"].max_new_tokens,
        },
        "facts": {
            "name": "made up", "digest": digest_of("facts"), "asked": facts, "limit": None,
            "asked_digest": digest_of_lines(items["fact_id"]), "part": "all",
        },
        "card": {
            "digest": digest, "estimator": "likelihood", "settings_digest": digest,
            "canonical": True,
        },
        "domains": [one.model_dump(mode="json") for one in found.domains],
        "base_domains": [one.model_dump(mode="json") for one in found.base],
        "recipe": {"method": "full", "size": 240, "level": "any", "learning_rate": 1e-4},
        "drift": {"KL(variant || base), question, variant": 0.1 + seed / 1000},
        "tasks": [_task(0.4 + seed / 5000)], "base_tasks": [_task(0.42)],
        "software": {"sftbench": "0"}, "engine": {"engine": "made up"},
        "made": "2026-11-28T00:00:00Z", "command": "made up",
    }  # fmt: skip


def _task(value: float) -> dict[str, Any]:
    return {"task": "made_up", "metric": "acc,none", "value": value, "n": 100,
            "stderr": 0.02, "higher_is_better": True}  # fmt: skip


def _named(fields: dict[str, Any], at: int) -> dict[str, Any]:
    """Return the fields of one model, in its group of `IN_GROUP`."""
    fields = dict(fields)
    base, tuned = digest_of(["base", at // IN_GROUP]), digest_of(["tuned", at])
    return {
        **{key: value for key, value in fields.items() if key != "base_domains"},
        "base": {
            "name": f"base-{at // IN_GROUP}", "digest": base, "tokenizer_digest": base,
            "domains": fields["base_domains"],
        },
        "model": {
            "name": f"org-{at % 97}/model-{at}", "digest": Tuned().digest(base, tuned),
            "variant": "tuned", "tuned_digest": tuned, "tokenizer_digest": base,
            "chat_template_digest": None, "parameters": 10**8 * (1 + at % 70),
        },
    }  # fmt: skip


def _write(folder: Path, fields: dict[str, Any], items: pl.DataFrame) -> None:
    model, suite = fields["model"], fields["suite"]
    path = folder / place_of(model["name"], model["digest"], suite["name"])
    beside = items_beside(path)
    ITEMS.write(items, beside, {})
    content = {"file": beside.name, "sha256": sha256_of(beside.read_bytes()), "rows": items.height}
    record = LeaderboardRecord.model_validate({**fields, "items": content})
    write_json(path, record.model_dump(mode="json"))


def accepted(folder: Path) -> Iterator[tuple[Path, LeaderboardRecord]]:
    """Yield every record of a folder, as one that was accepted."""
    for path in sorted(folder.glob("*/*/*.json")):
        yield path, parse_accepted(path.read_bytes())


def aggregate(folder: Path) -> dict[str, float]:
    """Return seconds and peak memory (GiB) of the board of a folder, in this process."""
    start = time.perf_counter()
    board = Board.of(accepted(folder))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"records": len(board.records), "seconds": round(seconds, 2), "peak_gib": round(peak, 2)}


def main() -> None:
    """Make results, measure, and print one JSON line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("aggregate", "ranks", "inside"))
    parser.add_argument("--records", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--models", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--facts", type=int, default=1000)
    parser.add_argument("--distinct", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where the results are (kept)")
    asked = parser.parse_args()
    if asked.what == "inside":
        print(json.dumps(aggregate(asked.folder)))
        return
    for count in asked.records if asked.what == "aggregate" else asked.models:
        with tempfile.TemporaryDirectory() as scratch:
            folder = asked.folder or Path(scratch)
            if not any(folder.glob("*")):
                made_results(folder, count, asked.facts, asked.distinct)
            command = [sys.executable, __file__, "inside", "--folder", str(folder)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(done.stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
