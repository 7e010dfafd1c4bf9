"""What a run is watched with: the base's levels, the facts that have one, the texts to ask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from sftbench.checkpoints.folder import open_checkpoint
from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.tokenizers import highest_token_id
from sftbench.common.errors import SftbenchError
from sftbench.facts.reference import how_to_make, resolve_facts, shipped_facts
from sftbench.facts.shots import shots_of
from sftbench.facts.table import FactSet
from sftbench.mastery.bundled import CANONICAL, find_card, resolve_card
from sftbench.mastery.card import MAKE_ONE, MasteryCard
from sftbench.scoring.answers import prompt_texts
from sftbench.scoring.retention import SCORED_LEVELS
from sftbench.watch.probe import PROMPT

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPARED_TEXTS = 50
"""Texts that two tokenizers are held against each other with."""
COLUMNS = ("fact_id", "relation", "domain", "level", "answers", "answer", "text")


@dataclass(frozen=True)
class Levelled:
    """The base and its facts.

    Attributes:
        base: checkpoint folder of the base.
        tokenizer: the base's own; the trainer's is never used, so that none of its settings is
            touched.
        rows: test facts of the levels 1..4, columns as in `ProbeSet`.
    """

    base: Path
    tokenizer: Any
    rows: pl.DataFrame


def find_levelled(
    base: str | Path, facts: str | Path | FactSet | None, mastery: str | Path | MasteryCard | None
) -> Levelled:
    """Return what a run of this base is watched with.

    Args:
        base: a folder, a hub id, or a short name ("lab", "smollm2").
        facts: a fact table, its file or its name; None for the one that the card levels.
        mastery: the base's mastery card, its file, or "canonical"; None for the one that ships.

    Raises:
        SftbenchError: one of them cannot be read, they do not belong together, or no test fact
            has a level from 1 to 4.
    """
    from transformers import AutoTokenizer

    source = open_checkpoint(resolve(str(base)))
    table, card = _facts_and_card(source.digest, facts, mastery)
    rows = _rows(table, card)
    tokenizer = AutoTokenizer.from_pretrained(source.path, local_files_only=True)
    return Levelled(source.path, tokenizer, rows)


def _facts_and_card(
    base_digest: str, facts: str | Path | FactSet | None, mastery: str | Path | MasteryCard | None
) -> tuple[FactSet, MasteryCard]:
    table = facts if isinstance(facts, FactSet | None) else resolve_facts(facts)
    if isinstance(mastery, MasteryCard):
        card = mastery
    elif table is not None:
        ref = None if mastery is None else str(mastery)
        card = resolve_card(ref, base_digest=base_digest, facts=table)
    elif mastery is not None and mastery != CANONICAL:
        card = MasteryCard.read(Path(mastery))
    else:
        card = _shipped_card(base_digest, canonical=mastery == CANONICAL)
    if table is None:
        table = shipped_facts(str(card.record["facts_digest"]))
    if table is None:
        raise SftbenchError(
            f"levels facts that do not ship with sftbench ({card.record.get('facts_name')})",
            where=card.name,
            remedy=how_to_make(card.record.get("facts_name"))
            + 'Name their fact table: facts="facts.parquet".',
        )
    card.require(facts=table, base_digest=base_digest)
    return table, card


def _shipped_card(base_digest: str, *, canonical: bool) -> MasteryCard:
    card = find_card(base_digest=base_digest, canonical=canonical)
    if card is None:
        kind = "canonical mastery card" if canonical else "mastery card"
        raise SftbenchError(
            f"no {kind} ships for this base (digest {base_digest[:12]})",
            where="mastery",
            remedy=f'{MAKE_ONE} Then name both: facts="facts.parquet", mastery="card.parquet".',
        )
    return card


def _rows(facts: FactSet, card: MasteryCard) -> pl.DataFrame:
    levels = card.frame.select("fact_id", "level").filter(pl.col("level").is_in(SCORED_LEVELS))
    rows = facts.scored().join(levels, on="fact_id", maintain_order="left")
    if rows.is_empty():
        raise SftbenchError(
            f"the mastery card puts none of the test facts of {facts.name} into the levels 1 to 4",
            where=card.name,
            remedy="Level test facts that the base knows something of: `sftbench mastery`.",
        )
    texts = prompt_texts(rows, PROMPT, shots_of(facts))
    answer = pl.col("answers").list.first()
    return rows.with_columns(text=pl.Series(texts), answer=answer).select(COLUMNS)


def require_same_tokenizer(levelled: Levelled, processing_class: Any) -> None:
    """Raise unless the trainer's tokenizer gives the texts the ids that the base's gives.

    Special tokens around a text are not compared: each probe is asked with the base's.

    Args:
        levelled: the base's tokenizer and texts.
        processing_class: what the trainer was given; None where the data were tokenized before.

    Raises:
        SftbenchError: a text has other ids.
    """
    tokenizer = getattr(processing_class, "tokenizer", processing_class)
    if tokenizer is None:
        return
    for text in levelled.rows["text"].head(COMPARED_TEXTS):
        if _ids(levelled.tokenizer, text) != _ids(tokenizer, text):
            raise SftbenchError(
                "the trainer's tokenizer turns questions into other ids than the base's, so the "
                "trained model cannot be asked what the base was asked",
                where=levelled.base,
                remedy="Train with the base's tokenizer (added tokens do no harm), or name the "
                "base that the trainer's tokenizer belongs to.",
            )


def require_vocabulary(levelled: Levelled, rows: int) -> None:
    """Raise unless the model has an embedding for every token of the base.

    Args:
        levelled: the base.
        rows: tokens that the model has an embedding for.

    Raises:
        SftbenchError: it has fewer.
    """
    highest = highest_token_id(levelled.base)
    if highest is not None and highest >= rows:
        raise SftbenchError(
            f"the model that is trained knows {rows} tokens and the base's tokenizer gives ids up "
            f"to {highest}",
            where=levelled.base,
            remedy="Name the base that this model was made from.",
        )


def _ids(tokenizer: Any, text: str) -> Sequence[int]:
    return [int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]
