"""How a leaderboard grows: time and memory to aggregate results, to rank models, to build the site.

    python benchmarks/leaderboard.py aggregate --records 10000 --facts 1000
    python benchmarks/leaderboard.py ranks --models 30 100 300 --facts 1000
    python benchmarks/leaderboard.py site --models 2000 --facts 1000

The results are made up: records of one base in groups of 300, each with items of its own, whose
models keep 40 to 95 % of what the base knows. `aggregate` runs in a process of its own, so that
its peak of memory is that of nothing else. `site` builds the site and opens its table in Chromium:
milliseconds from the start of the navigation to the drawn table, then those until the next frame
after sorting, filtering and searching, of all models in one table. Validation is not timed: it is
made once for each record (`sftbench_leaderboard.receipts`).
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sftbench_leaderboard.answers import Answers
from sftbench_leaderboard.board import Board
from sftbench_leaderboard.headline import figures_of
from sftbench_leaderboard.items import ITEMS, sha256_of
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside, place_of
from sftbench_leaderboard.record import KIND, SCHEMA_VERSION, LeaderboardRecord
from sftbench_leaderboard.site.build import build
from sftbench_leaderboard.standings import standings
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


def ranks(models: int, facts: int) -> dict[str, float]:
    """Return seconds to rank so many models of one base, in both domains."""
    items = [made_items(facts, 0, seed) for seed in range(models)]
    answers = Answers(
        items[0].select("fact_id", "relation", "domain", "level", "answer"),
        np.array([one["correct"].to_numpy() for one in items]),
        np.array([one["base_correct"].to_numpy() for one in items]),
        np.arange(models),
    )
    standings(answers, range(2))  # imports scipy
    start = time.perf_counter()
    found = standings(answers, range(models))
    seconds = time.perf_counter() - start
    groups = max(one.rank.rank for one in found)
    return {"models": models, "facts": facts, "ranks": groups, "seconds": round(seconds, 2)}


def site(folder: Path, models: int) -> dict[str, float]:
    """Return seconds to build the site of a folder, and milliseconds of its table in a browser."""
    board = Board.of(islice(accepted(folder), models))
    with tempfile.TemporaryDirectory() as scratch:
        to = Path(scratch) / "site"
        start = time.perf_counter()
        built = build(board, [], to, Known())
        seconds = time.perf_counter() - start
        size = (to / "index.html").stat().st_size / 1e6
        return {
            "models": built.models, "build_seconds": round(seconds, 1),
            "site_mb": round(built.size / 1e6, 1), "table_mb": round(size, 2), **browsed(to),
        }  # fmt: skip


STEPS = {
    "sort": "document.querySelector('[data-sort=in_retention]').click()",
    "sort_back": "document.querySelector('[data-sort=in_retention]').click()",
    "filter": "{const f = document.getElementById('parameters'); f.value = '2'; "
    "f.dispatchEvent(new Event('change'))}",
    "search": "{const q = document.getElementById('q'); q.value = 'model-1'; "
    "q.dispatchEvent(new Event('input'))}",
}
UNTIL_NEXT_FRAME = """
(() => new Promise((done) => {
  const start = performance.now();
  %s;
  requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
}))()
"""


def browsed(to: Path, rounds: int = 5) -> dict[str, float]:
    """Return the medians of what a reader waits for, milliseconds."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {"first_view": [], **{name: [] for name in STEPS}}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        for _ in range(rounds):
            page = browser.new_page()
            page.goto(f"{(to / 'index.html').as_uri()}#base=*")
            page.wait_for_function("document.documentElement.dataset.drawn")
            found["first_view"].append(float(page.evaluate(FIRST_VIEW)))
            for name, step in STEPS.items():
                found[name].append(float(page.evaluate(UNTIL_NEXT_FRAME % step)))
            page.close()
        browser.close()
    return {f"{name}_ms": round(statistics.median(times)) for name, times in found.items()}


FIRST_VIEW = """
(() => new Promise((done) => {
  const drawn = () => performance.getEntriesByName("first-contentful-paint")[0];
  const wait = () => (drawn()
    ? done(Math.max(drawn().startTime, Number(document.documentElement.dataset.drawn)))
    : requestAnimationFrame(wait));
  wait();
}))()
"""
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def main() -> None:
    """Make results, measure, and print one JSON line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("aggregate", "ranks", "site", "inside"))
    parser.add_argument("--records", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--models", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--facts", type=int, default=1000)
    parser.add_argument("--distinct", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where the results are (kept)")
    asked = parser.parse_args()
    if asked.what == "inside":
        print(json.dumps(aggregate(asked.folder)))
    elif asked.what == "ranks":
        for count in asked.models:
            print(json.dumps(ranks(count, asked.facts)), flush=True)
    else:
        for count in asked.records if asked.what == "aggregate" else asked.models:
            _of_results(asked, count)


def _of_results(asked: argparse.Namespace, count: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        if not any(folder.glob("*")):
            made_results(folder, count, asked.facts, asked.distinct)
        if asked.what == "site":
            print(json.dumps(site(folder, count)), flush=True)
            return
        command = [sys.executable, __file__, "inside", "--folder", str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(done.stdout.strip(), flush=True)


if __name__ == "__main__":
    main()
