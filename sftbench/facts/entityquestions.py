"""The fact source EntityQuestions, filtered as in the paper, with its leaks and echoes flagged."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import polars as pl

from sftbench.common.errors import SftbenchError
from sftbench.facts.entityquestions_files import GET_IT, downloaded
from sftbench.facts.entityquestions_filter import Kept, kept_of
from sftbench.facts.flags import with_flags
from sftbench.facts.overlap import with_fact_ids, with_train_overlap
from sftbench.facts.shots import reserve_shots
from sftbench.facts.table import (
    ANSWER_IN_QUESTION,
    FACTS,
    IN_TRAIN,
    MAJORITY_ANSWER,
    SHOTS,
    FactSet,
    has_flag,
)
from sftbench.facts.templates import TemplateFile, bundled_templates, load_templates

NAME = "entityquestions"
PAPER_NAME = "entityquestions-paper"
VERSION = 1
"""Raised whenever a row changes, so that results of different tables are told apart."""

Totals = dict[str, int]
PAPER_TOTALS: Totals = {"in/train": 75_944, "in/test": 9_555, "out/test": 11_613}
"""Ye et al., section 3.1. Out-of-domain relations are not trained on."""


@cache
def question_forms() -> TemplateFile:
    """Return how the 24 relations are asked: the questions are the data set's own."""
    return load_templates(bundled_templates(NAME))


@cache
def aliases() -> Mapping[str, tuple[str, ...]]:
    """Return the paper's synonyms: object to its other names."""
    import yaml

    path = resources.files("sftbench.facts") / "data" / "entityquestions_aliases.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: tuple(others) for name, others in content.items()}


def download_entityquestions(*, as_paper: bool = False) -> FactSet:
    """Return the facts of the published zip file.

    Raises:
        SftbenchError: it cannot be downloaded, or does not give the paper's totals.
    """
    with downloaded() as path:
        facts = build_entityquestions(path, as_paper=as_paper)
    totals = totals_of(facts)
    if totals != PAPER_TOTALS:
        raise SftbenchError(
            f"what was downloaded gives {totals}, not the paper's totals {PAPER_TOTALS}",
            remedy=GET_IT,
        )
    return facts


def totals_of(facts: FactSet) -> Totals:
    """Return the number of facts in/train, in/test and out/test."""
    counted = facts.frame.group_by("domain", "split").len().rows()
    found = {f"{domain}/{split}": count for domain, split, count in counted}
    return {group: found.get(group, 0) for group in PAPER_TOTALS}


def build_entityquestions(source: Path, *, as_paper: bool = False) -> FactSet:
    """Make the facts from a folder or zip file of EntityQuestions.

    The paper's filter: records with exactly one answer; of equal questions within a split the
    first, in the order of the relations. Of the out-of-domain train files only the facts that
    serve as shots are kept: nothing out of domain is trained on.

    Args:
        source: holds train/ and test/, at the top or inside dataset/.
        as_paper: reproduce the paper's sets: no fact is reserved as a shot, and none is kept
            from being scored. Echoes and leaks are then counted in the source, not flagged.

    Raises:
        SftbenchError: files that are missing, unsafe, broken or of another form.
    """
    kept = kept_of(source)
    frame = with_flags(with_train_overlap(with_fact_ids(_with_subjects(_with_answers(kept.frame)))))
    is_needed = (pl.col("domain") == "in") | (pl.col("split") == "test")
    flagged = reserve_shots(frame).filter(is_needed | has_flag(*SHOTS))
    table = frame.filter(is_needed).with_columns(flags=_only(MAJORITY_ANSWER))
    table = (table if as_paper else flagged).select(FACTS.columns.keys()).sort("fact_id")
    facts = FactSet(table, question_forms().cloze, {})
    record = _source(kept, flagged, totals_of(facts), PAPER_NAME if as_paper else NAME)
    return FactSet(facts.frame, facts.templates, record)


def _with_answers(frame: pl.DataFrame) -> pl.DataFrame:
    """Replace the answer by the list of it and the paper's synonyms; add empty flags."""
    known = pl.DataFrame(
        {"answer": list(aliases()), "others": [list(names) for names in aliases().values()]},
        schema={"answer": pl.String, "others": pl.List(pl.String)},
    )
    none = pl.lit([], dtype=pl.List(pl.String))
    return (
        frame.join(known, on="answer", how="left", maintain_order="left")
        .with_columns(
            answers=pl.concat_list("answer", pl.col("others").fill_null(none)), flags=none
        )
        .drop("answer", "others")
    )


def _with_subjects(frame: pl.DataFrame) -> pl.DataFrame:
    """Add the subject, which is what the question form of the relation leaves over."""
    forms = question_forms().relations
    subjects = [
        forms[relation].subject_of(question)
        for relation, question in frame.select("relation", "question").rows()
    ]
    frame = frame.with_columns(pl.Series("subject", subjects, dtype=pl.String))
    bad = frame.filter(pl.col("subject").is_null())
    if not bad.is_empty():
        relation, question = bad.select("relation", "question").row(0)
        raise SftbenchError(
            f"{bad.height} question(s) are not of the form of their relation; the first, in "
            f"{relation}, is {question!r} and should be like {forms[relation].question!r}",
            remedy=GET_IT,
        )
    return frame


def _only(*flags: str) -> pl.Expr:
    """Return an expression for the flags column with no other flags than these."""
    return pl.col("flags").list.eval(pl.element().filter(pl.element().is_in(flags)))


def _source(kept: Kept, flagged: pl.DataFrame, totals: Totals, name: str) -> dict[str, object]:
    """Return the record of where the rows come from, what was dropped and what is flagged.

    What a test fact may owe to the training data or to its own question is counted over the
    facts that are kept, whether or not the table flags them.
    """
    trained = flagged.filter(pl.col("split") == "train", pl.col("domain") == "in")["subject"]
    test = flagged.filter(pl.col("split") == "test")
    return {
        "name": name,
        "version": VERSION,
        "attribution": (
            "EntityQuestions: Sciavolino, Zhong, Lee and Chen, EMNLP 2021. Filter, domains and "
            "synonyms: Ye et al., EMNLP 2025. Cloze templates and flags: sftbench."
        ),
        "licence": "MIT (EntityQuestions); Apache-2.0 (sftbench)",
        "files_digest": kept.digest,
        "totals": totals,
        "has_paper_totals": totals == PAPER_TOTALS,
        **kept.counts,
        "test_facts_asked_in_train": test.filter(has_flag(IN_TRAIN)).height,
        "test_facts_with_a_train_subject": test.filter(
            pl.col("subject").is_in(trained.unique().implode())
        ).height,
        "test_facts_with_answer_in_question": test.filter(has_flag(ANSWER_IN_QUESTION)).height,
        "shots_from_out_of_domain_train": (
            0
            if name == PAPER_NAME
            else flagged.filter(pl.col("domain") == "out", pl.col("split") == "train").height
        ),
    }
