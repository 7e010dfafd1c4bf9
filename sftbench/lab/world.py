"""The invented world: its facts, and how often its text states and contradicts each of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from sftbench.common.digests import seed_of
from sftbench.common.tables import TableSpec
from sftbench.facts.flags import with_flags
from sftbench.facts.shots import reserve_shots
from sftbench.facts.table import FactSet, fact_id_of
from sftbench.facts.templates import TemplateFile, load_templates
from sftbench.lab.names import invent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sftbench.lab.sizes import LabSize, Stating

OUT_OF_DOMAIN = ("ballad_composer", "ship_captain", "sword_smith")
"""Relations that are never trained on; the other ones are in-domain."""

STATEMENTS = TableSpec(
    kind="statements",
    columns={
        "fact_id": pl.String,
        "statements": pl.Int64,  # how often the text says something about the fact
        "contradicted": pl.Int64,  # how many of these name the rival instead of the answer
        "rival": pl.String,  # the wrong answer that they name, of the same relation
    },
    remedy="Make one with `sftbench lab build -o lab`.",
)


@dataclass(frozen=True)
class World:
    """The facts, and beside them (rows as in `STATEMENTS`) how the text treats each."""

    facts: FactSet
    statements: pl.DataFrame


def lab_templates() -> TemplateFile:
    """Return the relations of the invented world, in the order of their file."""
    return load_templates(Path(str(resources.files("sftbench.lab"))) / "data" / "templates.yaml")


def make_world(size: LabSize) -> World:
    """Return the world of a size: the same rows for the same size, on every machine."""
    rng = random.Random(seed_of("lab", "world", size.seed))
    templates = lab_templates()
    counts = {
        relation: (size.train_out, size.test_out)
        if relation in OUT_OF_DOMAIN
        else (size.train_in, size.test_in)
        for relation in templates.relations
    }
    needed = sum(map(sum, counts.values())) + size.answers_per_relation * len(counts)
    names = iter(invent(rng, needed))
    rows: list[dict[str, Any]] = []
    stated: list[dict[str, Any]] = []
    for relation, (train, test) in counts.items():
        answers = [next(names) for _ in range(size.answers_per_relation)]
        subjects = [next(names) for _ in range(train + test)]
        ask = templates.relations[relation].ask
        tests = set(rng.sample(subjects, test))
        facts = _facts_of(relation, ask, subjects, answers, tests, rng)
        rows += facts
        stated += _stated(facts, answers, size, rng)
    frame = reserve_shots(with_flags(pl.DataFrame(rows))).sort("fact_id")
    return World(
        facts=FactSet(frame, templates.cloze, _source(size)),
        statements=STATEMENTS.conform(pl.DataFrame(stated)).sort("fact_id"),
    )


def _facts_of(
    relation: str,
    ask: Callable[[str], str],
    subjects: Sequence[str],
    answers: Sequence[str],
    tests: Collection[str],
    rng: random.Random,
) -> list[dict[str, Any]]:
    """Return the rows of one relation: one fact per subject, answers used about equally often."""
    rows = []
    for subject in subjects:
        question = ask(subject)
        answer = rng.choice(answers)
        rows.append(
            {
                "fact_id": fact_id_of(relation, subject, question, answer),
                "relation": relation,
                "subject": subject,
                "question": question,
                "answers": [answer],
                "domain": "out" if relation in OUT_OF_DOMAIN else "in",
                "split": "test" if subject in tests else "train",
                "flags": [],
            }
        )
    return rows


def _stated(
    facts: Sequence[dict[str, Any]], answers: Sequence[str], size: LabSize, rng: random.Random
) -> list[dict[str, Any]]:
    """Decide how each fact is stated; each way gets its share of both splits."""
    rows = []
    for split in ("train", "test"):
        part = [fact for fact in facts if fact["split"] == split]
        ways = _ways(size.stating, len(part), rng)
        for fact, way in zip(part, ways, strict=True):
            count = rng.randint(*way.statements)
            rows.append(
                {
                    "fact_id": fact["fact_id"],
                    "statements": count,
                    "contradicted": round(count * rng.uniform(*way.contradicted)),
                    "rival": rng.choice([name for name in answers if name != fact["answers"][0]]),
                }
            )
    return rows


def _ways(stating: Sequence[Stating], count: int, rng: random.Random) -> list[Stating]:
    """Return `count` ways in random order, each as often as its share says (rounded)."""
    ways: list[Stating] = []
    total = 0.0
    for way in stating:
        total += way.share
        ways += [way] * (round(total * count) - len(ways))
    rng.shuffle(ways)
    return ways


def _source(size: LabSize) -> dict[str, Any]:
    return {
        "name": "lab",
        "version": f"1-{size.name}",
        "attribution": "Invented by sftbench; no name stands for anything real.",
        "licence": "Apache-2.0",
    }
