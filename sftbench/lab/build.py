"""The whole build: world, text, tokenizer, model, mastery card, and the record of it all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from sftbench.checkpoints.folder import open_checkpoint
from sftbench.common.digests import software_versions
from sftbench.common.files import atomic_folder, read_json, write_json
from sftbench.common.progress import progress
from sftbench.facts.table import FactSet
from sftbench.lab.text import Text, write_text
from sftbench.lab.world import STATEMENTS, World, make_world
from sftbench.mastery.card import MasteryCard
from sftbench.mastery.levels import LEVELS

if TYPE_CHECKING:
    from sftbench.lab.share import Share
    from sftbench.lab.sizes import LabSize

MODEL = "model"
FACTS_FILE = "facts.parquet"
CARD_FILE = "card.parquet"
STATEMENTS_FILE = "statements.parquet"
RECORD_FILE = "lab.json"

LEVELLING, LEVELLING_ROWS = 2, 2100
"""Processes that level the facts, and completions in a batch of each."""


@dataclass(frozen=True)
class Lab:
    """A built lab: its folder and what is in it.

    Attributes:
        path: folder with `MODEL`, `FACTS_FILE`, `CARD_FILE`, `STATEMENTS_FILE`, `RECORD_FILE`.
        facts: the facts of the invented world.
        card: the mastery card of the lab model.
        statements: how the text treats each fact, rows as in `world.STATEMENTS`.
        record: size, digests, counts, loss, seconds.
    """

    path: Path
    facts: FactSet
    card: MasteryCard
    statements: pl.DataFrame
    record: dict[str, Any]


def shipped_lab() -> Path:
    """Return the folder of the lab that is package data."""
    import sftbench

    return Path(sftbench.__file__).parent / "lab" / "data"


def read_lab(path: Path) -> Lab:
    """Read a built lab.

    Raises:
        SftbenchError: a file is missing or foreign, or the card is for another model or facts.
    """
    record = read_json(path / RECORD_FILE)
    facts = FactSet.read(path / FACTS_FILE)
    card = MasteryCard.read(path / CARD_FILE)
    card.require(facts=facts, base_digest=open_checkpoint(path / MODEL).digest)
    return Lab(path, facts, card, STATEMENTS.read(path / STATEMENTS_FILE)[0], record)


def build_lab(size: LabSize, output: Path) -> Lab:
    """Build the lab of a size in `output`; the folder appears whole or not at all.

    The same size gives the same world and text everywhere, and the same weights on one kind of
    processor, whatever the number of threads.

    Raises:
        SftbenchError: `output` is not free.
    """
    seconds: dict[str, float] = {}
    with atomic_folder(output) as folder:
        with _timed(seconds, "world"):
            world = make_world(size)
            world.facts.write(folder / FACTS_FILE)
            STATEMENTS.write(world.statements, folder / STATEMENTS_FILE, {})
        with _timed(seconds, "training"):
            trained = _train(world, size, folder / MODEL)
        with _timed(seconds, "levelling"):
            card = _level(world.facts, folder)
        record = {
            "size": asdict(size),
            "model_digest": card.record["model_digest"],
            "facts_digest": world.facts.digest,
            **trained,
            "levels": level_table(world.facts, card).rows(named=True),
            "seconds": seconds,
            "software": dict(software_versions("torch", "transformers", "tokenizers")),
        }
        write_json(folder / RECORD_FILE, record)
    return read_lab(output)


def level_table(facts: FactSet, card: MasteryCard) -> pl.DataFrame:
    """Return domain, split, level and facts (their number), every level 0..4 included."""
    kinds = pl.DataFrame({"domain": ["in", "in", "out"], "split": ["train", "test", "test"]})
    levels = pl.DataFrame({"level": list(LEVELS)}, schema={"level": pl.Int8})
    counted = (
        card.frame.join(facts.frame, on="fact_id")
        .group_by("domain", "split", "level")
        .agg(facts=pl.len().cast(pl.Int64))
    )
    return (
        kinds.join(levels, how="cross")
        .join(counted, on=["domain", "split", "level"], how="left")
        .with_columns(pl.col("facts").fill_null(0))
        .sort("domain", "split", "level", descending=[False, True, False])
    )


def shortfalls(lab: Lab) -> list[str]:
    """Return a sentence for each split and level with fewer facts than the size promises."""
    table = level_table(lab.facts, lab.card).group_by("split", "level").agg(pl.col("facts").sum())
    found = []
    for split, level, count in table.sort("split", "level").iter_rows():
        promised = lab.record["size"][f"promised_{split}"]
        if count < promised:
            found.append(
                f"level {level} has {count} {split} facts, fewer than the {promised} promised"
            )
    return found


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - start, 1)


def _train(world: World, size: LabSize, folder: Path) -> dict[str, Any]:
    """Train tokenizer and model, write them to `folder`, return what is worth recording."""
    from sftbench.lab.share import shared
    from sftbench.lab.train import make_tokenizer, save, train

    text = write_text(world, size.seed)
    tokenizer = make_tokenizer(text.documents(size.seed), size)
    with (
        progress("training the lab model", size.epochs, unit="epochs") as advance,
        shared(_help, size, tokenizer, text) as share,
    ):
        model, loss = train(size, tokenizer, text, share, advance)
    save(model, tokenizer, folder)
    return {
        "statements": len(text.statements),
        "questions": len(text.asked),
        "parameters": int(model.num_parameters()),
        "loss": round(loss, 4),
    }


def _help(size: LabSize, tokenizer: Any, text: Text, share: Share) -> None:
    """Be the other process of a shared training; its model is thrown away."""
    from sftbench.lab.train import train

    train(size, tokenizer, text, share, lambda _: None)


def _level(facts: FactSet, folder: Path) -> MasteryCard:
    """Make the mastery card of the model in `folder`, as `sftbench mastery` does."""
    from sftbench.engines.pool import SamplingPool
    from sftbench.mastery.estimate import make_card
    from sftbench.mastery.sampled import SampledEstimator

    base = open_checkpoint(folder / MODEL)
    with SamplingPool(base.path, processes=LEVELLING, sample_rows=LEVELLING_ROWS) as engine:
        return make_card(
            engine,
            facts,
            SampledEstimator(),
            model_name="lab",
            model_digest=base.digest,
            output=folder / CARD_FILE,
        )
