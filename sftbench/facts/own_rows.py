"""Turns the cells of a user's table into rows of facts, and counts whatever it leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from sftbench.common.digests import seed_of
from sftbench.common.errors import SftbenchError
from sftbench.facts.matching import normalise
from sftbench.facts.own_files import TEXTS, Raw
from sftbench.facts.table import DOMAINS, SPLITS
from sftbench.facts.templates import TemplateFile

LONGEST_QUESTION = 2_000
"""Characters. Four examples of this length would fill the context of many models."""
LONGEST_ANSWER = 200
"""Characters. An answer has 16 tokens to be given in; a longer one can never be right."""
OTHER_SPLITS = ("dev", "validation", "valid", "val")
"""Splits that are left out, and counted: facts are trained on or tested, not tuned on."""
SHOWN = 5

_WORDLESS = ~pl.element().str.contains(r"[\p{L}\p{N}]")


@dataclass(frozen=True)
class Skipped:
    """What was left out for one reason.

    Attributes:
        why: the reason, such as "row(s) without an answer".
        count: how many.
        rows: the numbers of the first few rows.
    """

    why: str
    count: int
    rows: tuple[int, ...]

    def __str__(self) -> str:
        first = ", ".join(map(str, self.rows))
        more = ", ..." if self.count > len(self.rows) else ""
        return f"{self.count} {self.why} ({first}{more})"


class _Sieve:
    """Holds the rows that are left, and notes what was taken out."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.frame = frame
        self.skipped: list[Skipped] = []

    def note(self, why: str, rows: Sequence[int]) -> None:
        """Note that something was left out of these rows."""
        if rows:
            self.skipped.append(Skipped(why, len(rows), tuple(sorted(rows)[:SHOWN])))

    def drop(self, why: str, bad: pl.Expr) -> None:
        """Leave out the rows where `bad` is true (null counts as false)."""
        is_bad = self.frame.select(bad.fill_null(value=False)).to_series()
        self.note(why, self.frame.filter(is_bad)["row"].to_list())
        self.frame = self.frame.filter(~is_bad)


def tidy(
    raw: Raw,
    roles: Mapping[str, str],
    separator: str | None,
    relation: str,
    forms: TemplateFile | None,
    test_percent: int,
) -> tuple[pl.DataFrame, tuple[Skipped, ...]]:
    """Return rows (relation, subject, question, answers, domain, split) and what is not in them.

    White space at the ends of a text goes; line breaks, tabs and runs of spaces become one space.

    Args:
        raw: the cells.
        roles: role (question, answers ...) to column.
        separator: splits a text cell of answers and aliases.
        relation: of all rows, where no column gives it.
        forms: how each relation is asked; gives the question or the subject where it is missing.
        test_percent: share of the subjects that are test, where a row has no split.

    Raises:
        SftbenchError: a domain or split that is none, a relation with two domains or without
            templates.
    """
    sieve = _Sieve(_by_role(raw.frame, roles, separator))
    sieve.note("row(s) with a value that is not text", raw.not_text)
    _fill(sieve, relation)
    _require_known(sieve, forms)
    if forms is not None:
        _ask(sieve, forms)
    _drop_unusable(sieve)
    sieve.frame = sieve.frame.with_columns(pl.col("subject").fill_null(pl.col("question")))
    if "split" in roles:
        unsplit = sieve.frame.filter(pl.col("split").is_null())["row"].to_list()
        sieve.note("row(s) without a split: split by their subject's hash", unsplit)
    sieve.frame = _with_split(sieve.frame, test_percent)
    _drop_repeats(sieve)
    _require_one_domain(sieve.frame)
    return sieve.frame.drop("row"), tuple(sieve.skipped)


def _with_split(rows: pl.DataFrame, test_percent: int) -> pl.DataFrame:
    """Fill empty splits by the hash of the subject: the same in every relation and every run."""
    drawn = [
        split or ("test" if split_hash(subject) < test_percent else "train")
        for split, subject in rows.select("split", "subject").rows()
    ]
    return rows.with_columns(pl.Series("split", drawn, dtype=pl.String))


def split_hash(subject: str) -> int:
    """Return a number in [0, 100) that decides the split of a subject."""
    return seed_of("own facts", "split", normalise(subject)) % 100


def _by_role(frame: pl.DataFrame, roles: Mapping[str, str], separator: str | None) -> pl.DataFrame:
    """Return columns named by role, tidied; null where a role has no column or a cell no text."""
    texts = ("question", "relation", "subject", "domain", "split")
    lists = ("answers", "aliases")
    for role in texts:
        column = roles.get(role)
        if column is not None and frame.schema[column] == TEXTS:
            raise SftbenchError(f"the column {column} holds lists, and a {role} is one text")
    return frame.select(
        "row",
        *(
            _none_if_empty(_tidied(pl.col(roles[role]))).alias(role)
            if role in roles
            else pl.lit(None, dtype=pl.String).alias(role)
            for role in texts
        ),
        *(
            _many(frame, roles[role], separator).alias(role)
            if role in roles
            else pl.lit([], dtype=TEXTS).alias(role)
            for role in lists
        ),
    )


def _many(frame: pl.DataFrame, column: str, separator: str | None) -> pl.Expr:
    """Return a column as lists of tidied texts without empty ones."""
    cells = pl.col(column)
    if frame.schema[column] != TEXTS:
        cells = cells.str.split(separator) if separator else pl.concat_list(column)
    tidied = cells.fill_null(pl.lit([], dtype=TEXTS)).list.eval(_tidied(pl.element()))
    return tidied.list.eval(pl.element().filter(pl.element().is_not_null() & (pl.element() != "")))


def _tidied(text: pl.Expr) -> pl.Expr:
    return text.cast(pl.String).str.replace_all(r"\s+", " ").str.strip_chars()


def _none_if_empty(text: pl.Expr) -> pl.Expr:
    return pl.when(text != "").then(text)


def _fill(sieve: _Sieve, relation: str) -> None:
    """Put in what stands for an empty cell: the one relation, the domain "in"."""
    sieve.frame = sieve.frame.with_columns(
        pl.col("relation").fill_null(relation),
        pl.col("domain").str.to_lowercase().fill_null("in"),
        pl.col("split").str.to_lowercase(),
    )
    sieve.drop("row(s) of a validation split", pl.col("split").is_in(OTHER_SPLITS))


def _require_known(sieve: _Sieve, forms: TemplateFile | None) -> None:
    """Raise for a domain, split or relation that cannot be used."""
    for column, known in (("domain", DOMAINS), ("split", SPLITS)):
        bad = sieve.frame.filter(~pl.col(column).is_in(known).fill_null(value=True))
        if not bad.is_empty():
            raise SftbenchError(
                f"{bad.height} row(s) have another {column} than {' and '.join(known)}; the "
                f"first, row {bad['row'][0]}, has {bad[column][0]!r}",
                where=column,
                remedy="Correct the column, or name another.",
            )
    if forms is None:
        return
    missing = sorted(set(sieve.frame["relation"]) - set(forms.relations))
    if missing:
        raise SftbenchError(
            f"{len(missing)} relation(s) of the table are not in the template file: "
            f"{', '.join(missing[:SHOWN])}",
            where="--templates",
            remedy="Add them to the file, or leave --templates out for all.",
        )


def _ask(sieve: _Sieve, forms: TemplateFile) -> None:
    """Fill a missing question from the subject, and a missing subject from the question."""
    questions, subjects = [], []
    for relation, question, subject in sieve.frame.select("relation", "question", "subject").rows():
        asked = forms.relations[relation]
        questions.append(asked.ask(subject) if question is None and subject else question)
        is_read = question is not None and subject is None
        subjects.append(asked.subject_of(question) if is_read else subject)
    sieve.frame = sieve.frame.with_columns(
        pl.Series("question", questions, dtype=pl.String),
        pl.Series("subject", subjects, dtype=pl.String),
    )
    sieve.drop(
        "row(s) without a subject, whose question is not of its relation's form",
        pl.col("subject").is_null() & pl.col("question").is_not_null(),
    )


def _drop_unusable(sieve: _Sieve) -> None:
    """Leave out rows without a question or a canonical answer that can be given."""
    sieve.drop("row(s) without a question", pl.col("question").is_null())
    long = pl.col("question").str.len_chars() > LONGEST_QUESTION
    sieve.drop(f"row(s) with a question of more than {LONGEST_QUESTION} characters", long)
    sieve.drop("row(s) without an answer", pl.col("answers").list.len() == 0)
    first = pl.col("answers").list.first()
    wordless = ~first.str.contains(r"[\p{L}\p{N}]")
    sieve.drop("row(s) whose answer has no letter or digit", wordless)
    long = first.str.len_chars() > LONGEST_ANSWER
    sieve.drop(f"row(s) with an answer of more than {LONGEST_ANSWER} characters", long)
    every = pl.concat_list("answers", "aliases")
    useless = (pl.element().str.len_chars() > LONGEST_ANSWER) | _WORDLESS
    counted = sieve.frame.select("row", bad=every.list.eval(useless).list.sum())
    sieve.note(
        f"row(s) that lost an alias (of more than {LONGEST_ANSWER} characters, or without a "
        "letter or digit)",
        counted.filter(pl.col("bad") > 0)["row"].to_list(),
    )
    kept = every.list.eval(pl.element().filter(~useless)).list.unique(maintain_order=True)
    sieve.frame = sieve.frame.with_columns(answers=kept).drop("aliases")


def _drop_repeats(sieve: _Sieve) -> None:
    """Leave out what a split of a relation asks a second time; the first row stays."""
    asked = ("relation", "question", "split")
    first = pl.col("answers").list.first()
    again = ~pl.struct(asked).is_first_distinct()
    same = first == first.first().over(asked)
    sieve.frame = sieve.frame.with_columns(again=again, same=same)
    sieve.drop("row(s) that ask and answer as a row before", pl.col("again") & pl.col("same"))
    sieve.drop("row(s) that ask as a row before and answer otherwise", pl.col("again"))
    sieve.frame = sieve.frame.drop("again", "same")


def _require_one_domain(frame: pl.DataFrame) -> None:
    domains = frame.group_by("relation").agg(pl.col("domain").n_unique()).sort("relation")
    mixed = domains.filter(pl.col("domain") > 1)["relation"].to_list()
    if mixed:
        raise SftbenchError(
            f"the relation {mixed[0]} is both in and out of domain",
            where="domain",
            remedy="A relation is trained on or only tested: give all its rows one domain.",
        )
