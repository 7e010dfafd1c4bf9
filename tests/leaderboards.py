"""A results folder made up for tests: three records of a fine-tune that forgets and gains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fakes import BASE, TUNED, FakeEngine, card_for, fact_set, factory_of, record, write_model
from sftbench_leaderboard.from_compare import drafts_of
from sftbench_leaderboard.items import ITEMS, sha256_of
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside
from sftbench_leaderboard.named import Names
from sftbench_leaderboard.submit import Submitted, submit
from two_models import relative

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.compare.finished import read_result
from sftbench.compare.request import Request
from sftbench.compare.run import run
from sftbench.facts.prompts import PROMPTS
from sftbench.recipes.record import write_record

if TYPE_CHECKING:
    import polars as pl

NAME = "some-org/tiny.1"


def compare(folder: Path, noise: int = 2) -> Request:
    """Write a comparison that loses facts 0..7, gains 30..33 and restores 10 and 20 %."""
    base, facts = write_model(folder / "base", BASE), fact_set()
    tuned = write_model(folder / "tuned", TUNED)
    digests = checkpoint_digest(base), checkpoint_digest(tuned)
    write_record(tuned, record(*digests))
    asked = Request(
        base=base,
        tuned=tuned,
        out=folder / "out",
        facts=facts,
        card=card_for(facts, digests[0]),
        prompt=PROMPTS["paper"],
        restored=relative(10, 20),
        noise=noise,
        base_name=str(base),
        tuned_name=str(tuned),
        command="sftbench compare --tuned '<b>tuned</b>'\n--more",
    )
    run(asked, factory_of(FakeEngine()))
    return asked


def known_of(asked: Request) -> Known:
    return Known([asked.facts], [asked.card])


def results_of(asked: Request, results: Path, name: str = NAME) -> list[Submitted]:
    """Submit every variant of a comparison."""
    drafts = drafts_of(read_result(asked.out), Names(model=name), ["all"])
    return submit(drafts, results, known_of(asked))


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> Path:
    """Change a record in its file; what the edit returns is thrown away."""
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def put(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Return an edit that puts a value at a place such as "domains.0.n"; `...` takes it out."""
    *way, last = [int(part) if part.isdecimal() else part for part in place.split(".")]

    def edit(content: Any) -> None:
        for part in way:
            content = content[part]
        if value is ...:
            del content[last]
        else:
            content[last] = value

    return edit


def change_items(path: Path, edit: Callable[[pl.DataFrame], pl.DataFrame]) -> Path:
    """Change the items of a record, and say so in the record."""
    beside = items_beside(path)
    frame, _ = ITEMS.read(beside)
    found = edit(frame)
    found.write_parquet(beside)
    return restamp(path, rows=found.height)


def restamp(path: Path, **more: Any) -> Path:
    """Write the digest of the items as they are now into the record."""
    digest = sha256_of(items_beside(path).read_bytes())
    return change(path, lambda content: content["items"].update(sha256=digest, **more))
