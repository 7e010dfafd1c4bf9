"""The fact table: one row per question that a model can know the answer to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from sftbench.common.digests import digest_of, digest_of_lines
from sftbench.common.errors import SftbenchError
from sftbench.common.tables import TableSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sftbench.facts.baselines import Baseline

DOMAINS = ("in", "out")
SPLITS = ("train", "test")
TEMPLATES_PER_RELATION = 21

ANSWER_IN_QUESTION = "answer_in_question"
"""Flag: an answer stands in the question, so that an echo would score; left out by default."""
IN_TRAIN = "in_train"
"""Flag: a test fact whose question is asked in the training data too; left out by default."""
SHOTS = ("shot_1", "shot_2", "shot_3")
"""Flags: the fact is an example of that shot set of its relation; never trained on or scored."""
MAJORITY_ANSWER = "majority_answer"
"""Flag: the answer is its relation's most frequent one, so that a constant guess would score."""
WELL_KNOWN = "well_known"
"""Flag: the source counts the subject among the famous ones (large population, a capital ...)."""
EXCLUDED_FLAGS = (ANSWER_IN_QUESTION, IN_TRAIN, *SHOTS)
"""Flags that keep a fact out of training and scoring unless it is asked for."""

FACTS = TableSpec(
    kind="facts",
    columns={
        "fact_id": pl.String,  # 16 hexadecimal digits, see fact_id_of
        "relation": pl.String,  # short name such as "country_capital"; key of the templates
        "subject": pl.String,  # what the question is about
        "question": pl.String,  # the full question, ending with a question mark
        "answers": pl.List(pl.String),  # the canonical answer first, then its aliases
        "domain": pl.String,  # "in" (relations that are trained on) or "out"
        "split": pl.String,  # "train" or "test"; what a source says about subjects, it documents
        "flags": pl.List(pl.String),  # sorted; see the constants of this module
    },
    remedy="Make one with `sftbench facts` (geography, entityquestions or import).",
)


def fact_id_of(relation: str, subject: str, question: str, answer: str, *, copy: int = 1) -> str:
    """Return the stable name of a fact: 16 hexadecimal digits of what is asked and answered.

    `answer` is the canonical one; adding an alias changes the table's digest, not the fact's.
    `copy` is 2 for a test fact that stands in the training data word for word.
    """
    named: list[str | int] = [relation, subject, question, answer]
    return digest_of(named if copy == 1 else [*named, copy])[:16]


@dataclass(frozen=True)
class FactSet:
    """A fact table with its cloze templates and where it came from.

    Attributes:
        frame: rows as in `FACTS`, sorted by fact_id, fact_id unique.
        templates: relation to its cloze templates; each holds ``{subject}`` and ends where the
            answer would begin.
        source: name, version, attribution and licence of the data.
        stored_baselines: those that the file holds; None in a table made in memory or long ago.
    """

    frame: pl.DataFrame
    templates: Mapping[str, Sequence[str]]
    source: Mapping[str, Any]
    stored_baselines: Mapping[str, Baseline] | None = field(default=None, compare=False, repr=False)

    @cached_property
    def digest(self) -> str:
        """Digest of the rows (every column); templates have their own digest."""
        rows = self.frame.sort("fact_id").select(list(FACTS.columns)).iter_rows()
        return digest_of_lines(digest_of(list(row)) for row in rows)

    @cached_property
    def templates_digest(self) -> str:
        """Digest of the templates of all relations, in order."""
        return digest_of({name: list(lines) for name, lines in self.templates.items()})

    @cached_property
    def baselines(self) -> Mapping[str, Baseline]:
        """Relation to what takes no knowledge: as stored, or computed where nothing is stored."""
        from sftbench.facts.baselines import baselines_of

        stored = self.stored_baselines
        return baselines_of(self.frame) if stored is None else stored

    @property
    def name(self) -> str:
        """Short name of the source, such as "geography"."""
        return str(self.source.get("name", "facts"))

    def scored(self, *, domain: str | None = None, split: str = "test") -> pl.DataFrame:
        """Return the rows of a split that may be trained on or scored (no excluded flag)."""
        rows = self.frame.filter(pl.col("split") == split, ~has_flag(*EXCLUDED_FLAGS))
        return rows if domain is None else rows.filter(pl.col("domain") == domain)

    def write(self, path: Path) -> None:
        """Write the table, its templates, source and baselines into one file, atomically."""
        from sftbench.facts.baselines import to_record

        record = {
            "digest": self.digest,
            "templates": {name: list(lines) for name, lines in self.templates.items()},
            "source": dict(self.source),
            "baselines": to_record(self.baselines),
        }
        FACTS.write(self.frame.sort("fact_id"), path, record)

    @classmethod
    def read(cls, path: Path) -> FactSet:
        """Read a fact table.

        Raises:
            SftbenchError: missing or foreign file, missing column, wrong value, or rows that
                do not match the digest that the file was written with.
        """
        from sftbench.facts.baselines import of_record

        frame, record = FACTS.read(path)
        facts = cls(
            frame.sort("fact_id"),
            record.get("templates", {}),
            record.get("source", {}),
            of_record(record["baselines"]) if "baselines" in record else None,
        )
        check_rows(facts.frame, where=path)
        if record.get("digest", facts.digest) != facts.digest:
            raise SftbenchError(
                "the rows are not those that this file was written with",
                where=path,
                remedy=FACTS.remedy,
            )
        return facts


def has_flag(*flags: str) -> pl.Expr:
    """Return an expression that is true where a row carries any of the flags."""
    return pl.any_horizontal(pl.col("flags").list.contains(flag) for flag in flags)


def _has_empty_answer() -> pl.Expr:
    """Return an expression that is true where an answer has nothing that could be looked for."""
    empty = ~pl.element().str.contains(r"[\p{L}\p{N}]")
    return pl.col("answers").list.eval(empty.fill_null(value=True)).list.any()


def check_rows(frame: pl.DataFrame, *, where: str | Path | None = None) -> None:
    """Raise `SftbenchError` for the first rule of the fact table that a row breaks."""
    rules: Iterable[tuple[str, pl.Expr]] = (
        ("a column is empty", pl.any_horizontal(pl.col(name).is_null() for name in FACTS.columns)),
        ("the domain is not one of in, out", ~pl.col("domain").is_in(DOMAINS)),
        ("the split is not one of train, test", ~pl.col("split").is_in(SPLITS)),
        ("there is no answer", pl.col("answers").list.len() == 0),
        ("an answer is null or has no letter or digit", _has_empty_answer()),
        ("the fact_id is not unique", pl.col("fact_id").is_duplicated()),
    )
    if frame.is_empty():
        raise SftbenchError("the fact table has no rows", where=where, remedy=FACTS.remedy)
    for rule, broken in rules:
        bad = frame.filter(broken.fill_null(value=True))
        if not bad.is_empty():
            raise SftbenchError(f"{rule} in {bad.height} row(s), first: {bad.row(0)}", where=where)
