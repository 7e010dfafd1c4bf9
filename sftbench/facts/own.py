"""Makes a fact set of a user's own table, and says which defaults it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import polars as pl

from sftbench.common.errors import SftbenchError
from sftbench.facts.flags import with_flags
from sftbench.facts.overlap import with_fact_ids, with_train_overlap
from sftbench.facts.own_files import Raw, of_frame, read_table
from sftbench.facts.own_hub import SPLIT, is_hub_id, read_dataset
from sftbench.facts.own_rows import Skipped, tidy
from sftbench.facts.shots import reserve_shots
from sftbench.facts.table import FACTS, FactSet
from sftbench.facts.templates import TemplateFile, load_templates

NAMES = {
    "question": ("question",),
    "answers": ("answers", "answer"),
    "relation": ("relation",),
    "subject": ("subject",),
    "aliases": ("aliases",),
    "domain": ("domain",),
    "split": ("split", SPLIT),
}
"""Which column has which role where none is named: the first of these that the table has."""


@dataclass(frozen=True)
class Columns:
    """The columns that a user named; None where the default of `NAMES` is to be taken."""

    question: str | None = None
    answers: str | None = None
    relation: str | None = None
    subject: str | None = None
    aliases: str | None = None
    domain: str | None = None
    split: str | None = None

    def resolve(self, present: Sequence[str], *, where: str, has_forms: bool) -> dict[str, str]:
        """Return role to column for the roles that the table fills.

        Raises:
            SftbenchError: a named column is missing, or there is none for question or answers.
        """
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        found: dict[str, str] = {}
        for role, column in named.items():
            defaults = [name for name in NAMES[role] if name in present]
            if column is not None and column not in present:
                raise _no_column(f"there is no column {column!r} for the {role}", present, where)
            if column is not None or defaults:
                found[role] = column or defaults[0]
        if "answers" not in found:
            raise _no_column("no column is called answers or answer", present, where)
        if "question" not in found and not (has_forms and "subject" in found):
            raise _no_column("no column is called question", present, where)
        return found


def _no_column(what: str, present: Sequence[str], where: str) -> SftbenchError:
    names = ", ".join(name for name in present if name != SPLIT) or "none"
    hint = " If these are several in one, name the --delimiter." if len(present) == 1 else ""
    return SftbenchError(
        f"{what}; the columns are: {names}",
        where=where,
        remedy=f"Name the columns, such as --question COLUMN --answers COLUMN.{hint}",
    )


@dataclass(frozen=True)
class Settings:
    """How a table is read and what stands in for columns that it does not have.

    Attributes:
        columns: which column has which role.
        name: of the fact set; None for the name of the file or data set.
        relation_name: of all rows, where there is no relation column.
        templates: a template file with every relation, or None.
        separator: splits a text cell of answers and aliases into several; None leaves it whole.
        test_percent: share of the subjects that are test, where there is no split column.
        encoding: of a text file.
        delimiter: of a CSV file; None for what its ending says.
        config: configuration of a Hugging Face data set.
        revision: branch, tag or commit of a data set on the hub.
        attribution: whom the facts are owed to.
        licence: under which they may be used.
    """

    columns: Columns = Columns()
    name: str | None = None
    relation_name: str = "facts"
    templates: Path | None = None
    separator: str | None = None
    test_percent: int = 50
    encoding: str = "utf-8"
    delimiter: str | None = None
    config: str | None = None
    revision: str | None = None
    attribution: str = "not stated"
    licence: str = "not stated"


@dataclass(frozen=True)
class Imported:
    """A fact set and what a user should know of how it was made.

    Attributes:
        facts: the fact set.
        read: number of rows in the source.
        skipped: rows and aliases that were left out, or changed, and why.
        notes: the defaults that were taken, in sentences.
    """

    facts: FactSet
    read: int
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]


def import_facts(source: str, settings: Settings) -> Imported:
    """Read a table of one's own and make a fact set of it.

    Args:
        source: a file (CSV, TSV, JSONL, JSON, Parquet), a folder or a hub id of a data set.
        settings: which columns to take, and what stands in for those that are missing.

    Raises:
        SftbenchError: the source cannot be read, a column is missing or holds what it may not,
            or no row is left.
    """
    if not 0 <= settings.test_percent <= 100:
        raise SftbenchError("is a share between 0 and 100", where="--test-percent")
    forms = None if settings.templates is None else load_templates(settings.templates)
    raw, roles = _raw(source, settings, has_forms=forms is not None)
    rows, skipped = tidy(
        raw, roles, settings.separator, settings.relation_name, forms, settings.test_percent
    )
    if rows.is_empty():
        reasons = "; ".join(str(one) for one in skipped) or "it has no rows"
        raise SftbenchError(f"no row can be used as a fact: {reasons}", where=source)
    frame = _flagged(rows)
    cloze = {} if forms is None else _cloze_of(forms, sorted(set(frame["relation"])))
    record = _source(source, settings, roles, raw, skipped)
    facts = FactSet(frame.select(FACTS.columns.keys()).sort("fact_id"), cloze, record)
    read = raw.frame.height + len(raw.not_text)
    return Imported(facts, read, skipped, _notes(settings, roles))


def _raw(source: str, settings: Settings, *, has_forms: bool) -> tuple[Raw, dict[str, str]]:
    """Return the used columns of the source, and role to column."""
    roles: dict[str, str] = {}

    def choose(present: Sequence[str]) -> list[str]:
        roles.update(settings.columns.resolve(present, where=source, has_forms=has_forms))
        return list(dict.fromkeys(roles.values()))

    if Path(source).is_dir() or is_hub_id(source):
        frame = read_dataset(source, config=settings.config, revision=settings.revision)
        names = sorted(set(frame[SPLIT]))
        if not {"train", "test"} <= set(names):  # one split, such as "train" alone: split by hash
            frame = frame.drop(SPLIT)
        return of_frame(frame, choose, where=source), roles
    path = Path(source)
    raw = read_table(path, choose, encoding=settings.encoding, delimiter=settings.delimiter)
    return raw, roles


def _flagged(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with names, flags and reserved shots."""
    rows = rows.with_columns(flags=pl.lit([], dtype=pl.List(pl.String)))
    return reserve_shots(with_flags(with_train_overlap(with_fact_ids(rows))))


def _cloze_of(forms: TemplateFile, relations: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {relation: forms.cloze[relation] for relation in relations}


def _source(
    source: str,
    settings: Settings,
    roles: Mapping[str, str],
    raw: Raw,
    skipped: Sequence[Skipped],
) -> dict[str, Any]:
    """Return the record of where the facts come from; of a path only its last part is kept."""
    name = settings.name or (source.split("/")[-1] if is_hub_id(source) else Path(source).stem)
    revision = {"revision": settings.revision} if settings.revision else {}
    return {
        "name": name,
        "attribution": settings.attribution,
        "licence": settings.licence,
        "imported_from": source if is_hub_id(source) else Path(source).name,
        **revision,
        "columns": {role: column for role, column in roles.items() if column != SPLIT},
        "split": (
            f"as given by {roles['split']}"
            if "split" in roles
            else f"by a hash of the subject, {settings.test_percent} % test"
        ),
        "rows_read": raw.frame.height + len(raw.not_text),
        "left_out": {one.why: one.count for one in skipped},
    }


def _notes(settings: Settings, roles: Mapping[str, str]) -> tuple[str, ...]:
    """Return what was assumed, in sentences."""
    chosen = ", ".join(f"{role} = {column}" for role, column in roles.items())
    notes = [f"Columns: {chosen}."]
    if "relation" not in roles:
        notes.append(
            f"No relation column: all facts are of one relation, {settings.relation_name}."
        )
    if "subject" not in roles and settings.templates is None:
        notes.append("No subject column: the question stands for the subject.")
    elif "subject" not in roles:
        notes.append("No subject column: the subject is read from the question, by its form.")
    if "domain" not in roles:
        notes.append("No domain column: all facts are in-domain.")
    if "split" not in roles:
        notes.append(
            f"No split column: {settings.test_percent} % of the subjects are test, by their hash."
        )
    if settings.templates is None:
        notes.append(
            "No templates: mastery will ask the questions themselves, in seven wordings and with "
            "three sets of examples, instead of cloze templates."
        )
    return tuple(notes)
