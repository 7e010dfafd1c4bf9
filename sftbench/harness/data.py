"""The documents of the lm-eval tasks: the test facts of one domain and one mastery level."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sftbench.common.errors import SftbenchError
from sftbench.facts.reference import how_to_make, resolve_facts, shipped_facts
from sftbench.facts.shots import shots_of
from sftbench.facts.table import DOMAINS
from sftbench.harness.choose import Chosen, choose
from sftbench.harness.variant_args import models_named
from sftbench.mastery.levels import LEVELS

if TYPE_CHECKING:
    from datasets import Dataset

    from sftbench.facts.table import FactSet
    from sftbench.mastery.card import MasteryCard

Doc = dict[str, Any]
PLACEHOLDER: Doc = {
    "fact_id": "",
    "relation": "",
    "question": "",
    "answer": "",
    "answers": [],
    "shot_set": "",
    "shots": [],
}
"""Stands for a level without facts, because lm-eval builds no task on an empty split."""


def is_placeholder(doc: Mapping[str, Any]) -> bool:
    """Return whether a document is the placeholder of an empty level."""
    return not doc["fact_id"]


def load(
    domain: str,
    level: int,
    *,
    mastery: str | None = None,
    facts: str | None = None,
    pretrained: object = None,
    **others: object,
) -> dict[str, Dataset]:
    """Return ``{"test": documents}`` of one domain and level; lm-eval calls this once per task.

    Documents are in the order of fact_id, which is a hash: ``--limit`` takes a fixed sample.
    Each holds fact_id, relation, question, answer (canonical), answers (aliases included),
    shot_set and shots (question and answer of each, in the order they are shown).

    Args:
        domain: "in" or "out"; from the task's YAML.
        level: 0..4; from the task's YAML.
        mastery: ``--metadata``: a card's file, or the name of one that ships. Default: the one
            that ships for the base of the evaluated model.
        facts: ``--metadata``: a fact table, "geography" or "lab". Default: the shipped fact set
            that the card names.
        pretrained: ``--model_args``: the model that is evaluated.
        others: everything else that lm-eval passes: the YAML's metadata, and all model_args, of
            which those of `sftbench-hf` and `sftbench-vllm` name the base.

    Raises:
        SftbenchError: no card, a card for other facts, or a broken file.
    """
    model = models_named(others) if pretrained is None else pretrained
    chosen = choose(mastery, facts, model)
    docs = _read(chosen).docs[domain, int(level)]
    return {"test": _dataset(docs or [PLACEHOLDER])}


@dataclass(frozen=True)
class Levelled:
    """The documents of every domain and level (empty lists included), in the order asked."""

    docs: Mapping[tuple[str, int], list[Doc]]


@lru_cache(maxsize=4)
def _read(chosen: Chosen) -> Levelled:
    """Read card and facts once per process and say whose they are, in one line."""
    from sftbench.mastery.card import MasteryCard

    card = MasteryCard.read(chosen.card)
    facts = _facts_of(card, chosen.facts)
    card.require(facts=facts)
    levelled = levelled_docs(facts, card)
    if not any(levelled.docs.values()):
        raise SftbenchError(
            f"the card levels no test fact of {facts.name}",
            where=chosen.card,
            remedy="Make a card that covers test facts: `sftbench mastery` without --limit.",
        )
    print(describe(facts, card, levelled), file=sys.stderr, flush=True)
    return levelled


def _facts_of(card: MasteryCard, ref: str | None) -> FactSet:
    if ref is not None:
        return resolve_facts(ref)
    digest = str(card.record["facts_digest"])
    found = shipped_facts(digest)
    if found is None:
        raise SftbenchError(
            f"this card levels facts that do not ship with sftbench "
            f"({card.record.get('facts_name')}, digest {digest[:12]})",
            where=card.path,
            remedy=how_to_make(card.record.get("facts_name"))
            + 'Name the fact table: --metadata \'{"mastery": "card.parquet", '
            '"facts": "facts.parquet"}\'.',
        )
    return found


def levelled_docs(facts: FactSet, card: MasteryCard) -> Levelled:
    """Return the test facts that the card levels, as documents."""
    level_of = dict(card.frame.select("fact_id", "level").iter_rows())
    shots = shots_of(facts)
    docs: dict[tuple[str, int], list[Doc]] = {
        (domain, level): [] for domain in DOMAINS for level in LEVELS
    }
    for row in facts.scored(split="test").sort("fact_id").iter_rows(named=True):
        if row["fact_id"] not in level_of:
            continue
        names = (row["fact_id"], row["relation"])
        has_shots = bool(shots.by_relation.get(row["relation"]))
        docs[row["domain"], level_of[row["fact_id"]]].append(
            {
                "fact_id": row["fact_id"],
                "relation": row["relation"],
                "question": row["question"],
                "answer": row["answers"][0],
                "answers": row["answers"],
                "shot_set": shots.name_of(*names) if has_shots else "",
                "shots": [vars(shot) for shot in shots(*names)] if has_shots else [],
            }
        )
    return Levelled(docs)


def describe(facts: FactSet, card: MasteryCard, levelled: Levelled) -> str:
    """Return one line: the card's base, the facts, test facts per level, and empty levels."""
    counts = "; ".join(
        f"{domain} {'/'.join(str(len(levelled.docs[domain, level])) for level in LEVELS)}"
        for domain in DOMAINS
    )
    line = (
        f"sftbench: levels of the base {card.record.get('model_name')} "
        f"({str(card.record.get('model_digest'))[:12]}) on the facts {facts.name} "
        f"({facts.digest[:12]}); test facts in level 0/1/2/3/4: {counts}"
    )
    empty = [f"{domain} {level}" for (domain, level), docs in levelled.docs.items() if not docs]
    if empty:
        line += f"; empty: {', '.join(empty)} (the macro means are over the other levels)"
    return line


def _dataset(docs: list[Doc]) -> Dataset:
    from datasets import Dataset, Features, Value

    text = Value("string")
    features = Features(
        {
            "fact_id": text,
            "relation": text,
            "question": text,
            "answer": text,
            "answers": [text],
            "shot_set": text,
            "shots": [{"question": text, "answer": text}],
        }
    )
    return Dataset.from_list(docs, features=features)
