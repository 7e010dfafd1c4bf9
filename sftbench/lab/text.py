"""The text about the invented world: statements, and questions with answers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sftbench.common.digests import seed_of
from sftbench.facts.prompts import PROMPTS, SHOT_DELIMITER, answer_text, prompt_text
from sftbench.facts.shots import Shot

if TYPE_CHECKING:
    from sftbench.lab.world import World

ASKED_SHARE = 0.25
"""Share of a train fact's statements that are put as question and answer.

Test facts are never asked in the text: that their questions are answered at all is what the
model has learnt about questions.
"""


Document = tuple[tuple[str, str], ...]
"""A text as pairs of a context and the answer that follows it, to be read one after another."""


@dataclass(frozen=True)
class Asked:
    """A question of a relation, with the answer that the text gives (right or the rival)."""

    relation: str
    shot: Shot


@dataclass(frozen=True)
class Text:
    """What the text says: plain statements, and questions that become documents of a few."""

    statements: tuple[Document, ...]
    asked: tuple[Asked, ...]

    def documents(self, seed: int) -> list[Document]:
        """Return the text as documents in random order, the questions grouped anew per seed.

        What is said, and how often, is the same for every seed.
        """
        rng = random.Random(seed)
        documents = [*self.statements, *_question_documents(self.asked, rng)]
        rng.shuffle(documents)
        return documents


def write_text(world: World, seed: int) -> Text:
    """Return the text about a world: each fact stated as often as the world says.

    Each statement takes another of the relation's templates as long as there are any left.
    """
    treated = {row["fact_id"]: row for row in world.statements.iter_rows(named=True)}
    statements: list[Document] = []
    asked: list[Asked] = []
    for fact in world.facts.frame.iter_rows(named=True):
        how = treated[fact["fact_id"]]
        rng = random.Random(seed_of("lab", "text", seed, fact["fact_id"]))
        said = [how["rival"]] * how["contradicted"]
        said += [fact["answers"][0]] * (how["statements"] - how["contradicted"])
        rng.shuffle(said)
        questions = round(len(said) * ASKED_SHARE) if fact["split"] == "train" else 0
        shots = (Shot(fact["question"], answer) for answer in said[:questions])
        asked += [Asked(fact["relation"], shot) for shot in shots]
        lines = _shuffled_templates(world.facts.templates[fact["relation"]], rng)
        statements += [
            ((line.format(subject=fact["subject"]), f" {answer}."),)
            for line, answer in zip(lines, said[questions:], strict=False)
        ]
    return Text(tuple(statements), tuple(asked))


def _shuffled_templates(templates: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Yield all templates in random order, again and again."""
    while True:
        yield from rng.sample(templates, len(templates))


def _question_documents(asked: Sequence[Asked], rng: random.Random) -> Iterator[Document]:
    """Yield documents of one to five questions of one relation, in the few-shot prompt's form."""
    prompt = PROMPTS["fewshot"]
    by_relation: dict[str, list[Shot]] = {}
    for item in asked:
        by_relation.setdefault(item.relation, []).append(item.shot)
    for shots in by_relation.values():
        rng.shuffle(shots)
        while shots:
            count = min(rng.choice((1, 2, 3, prompt.shots + 1)), len(shots))
            taken = [shots.pop() for _ in range(count)]
            yield tuple(
                (
                    SHOT_DELIMITER * (place > 0) + prompt_text(prompt, shot.question),
                    answer_text(prompt, shot.answer),
                )
                for place, shot in enumerate(taken)
            )


def plain(document: Document) -> str:
    """Return a document as one text."""
    return "".join(context + answer for context, answer in document)
