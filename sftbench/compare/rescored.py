"""A result scored again without a model: other matching, other levels, other aliases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import sftbench
from sftbench.analysis.evidence import MasteryChangeRecord
from sftbench.analysis.summary import RunRecord, Summary
from sftbench.common.digests import digest_of, digest_of_lines
from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_folder, require_free
from sftbench.compare.answered import Answered
from sftbench.compare.evidence import chance_of
from sftbench.compare.finished import Finished, answers_file, read_result
from sftbench.compare.levels import cautions_of_levels
from sftbench.compare.result import (
    ASKED,
    SUMMARY,
    Compared,
    sum_up,
    write_result,
)
from sftbench.facts.matching import How
from sftbench.facts.table import FactSet
from sftbench.mastery.card import MasteryCard
from sftbench.scoring.answers import ANSWERS, rescore

if TYPE_CHECKING:
    import polars as pl


NOT_AGAIN = (
    "What kind of loss each is was told for the answers as they were scored before; it is left "
    "out here, since it takes a model."
)


@dataclass(frozen=True)
class Rescoring:
    """What to score by instead; what is None stays as it was.

    Attributes:
        matching: how an answer is matched, see `sftbench.facts.matching`.
        card: a mastery card of the same base: other levels.
        facts: a fact table that holds the facts asked: other aliases.
    """

    matching: How | None = None
    card: MasteryCard | None = None
    facts: FactSet | None = None


def rescore_result(source: Path, out: Path, how: Rescoring, command: str = "") -> Compared:
    """Score the answers of a result again and write a new result; the old one stays as it is.

    Args:
        source: folder of a comparison.
        out: folder to make.
        how: what to score by.
        command: the command line, for the record.

    Raises:
        SftbenchError: `source` holds no whole result, `out` is not free, or card or facts do not
            belong to it.
    """
    require_free(out)
    found = read_result(source)
    # What is not asked for stays as it was, also where that was itself a rescoring.
    how = replace(how, matching=how.matching or _matching_of(found.summary))
    rows = _levelled(_aliased(found.rows, how.facts), found.summary, how)
    answered = [_scored(one, rows, how) for one in found.answered]
    run = _run_record(found, rows, how, command)
    compared = sum_up(
        run,
        answered,
        rows,
        how.facts,
        chance_of(how.card, rows) if how.card else _mastery_of(found.summary),
        recipe=found.summary.recipe,
        warnings=(
            _said(found, rows, how),
            *(cautions_of_levels(how.card) if how.card else ()),
            *([NOT_AGAIN] if found.summary.loss is not None else []),
            *found.summary.warnings,
        ),
        chat=found.summary.chat,
        rescored_from=f"{source} (key {found.summary.run.key[:12]})",
        baselines=found.summary.baselines,
        repair=found.summary.repair,
        # Of the models, whatever their answers count as; but told apart by the old levels.
        drift=None if how.card else found.summary.drift,
        movement=found.summary.movement,
    )
    with atomic_folder(out) as folder:
        for one in answered:
            ANSWERS.write(one.answers, folder / answers_file(one.variant.slug), one.record)
        write_result(folder, compared, rows)
    return compared


def _mastery_of(summary: Summary) -> MasteryChangeRecord | None:
    """Return what a result says of chance in its levels, whose card need not be at hand."""
    return None if summary.noise is None else summary.noise.mastery


def _matching_of(summary: Summary) -> How:
    """Return how the answers of a result were matched."""
    how = summary.run.prompt.how
    if how not in get_args(How):
        raise SftbenchError(f"names an unknown way of matching, {how!r}", where=SUMMARY)
    return cast("How", how)


def _aliased(rows: pl.DataFrame, facts: FactSet | None) -> pl.DataFrame:
    """Return the rows with the columns of another fact table of the same facts."""
    if facts is None:
        return rows
    joined = rows.select("fact_id", "rate", "level").join(facts.frame, on="fact_id")
    if joined.height < rows.height:
        raise SftbenchError(
            f"holds only {joined.height} of the {rows.height} facts that were asked",
            where=f"--facts {facts.name}",
            remedy="Name a table of the same facts; only aliases may differ, since another "
            "question or canonical answer is another fact.",
        )
    return ASKED.conform(joined.sort("fact_id"))


def _levelled(rows: pl.DataFrame, summary: Summary, how: Rescoring) -> pl.DataFrame:
    """Return the rows with the levels of another card; facts without a level are left out."""
    card = how.card
    if card is None:
        return rows
    known = {summary.run.facts.digest, *([how.facts.digest] if how.facts else [])}
    _require_of_result("base", card.record.get("model_digest"), {summary.run.base.digest}, card)
    _require_of_result("facts", card.record.get("facts_digest"), known, card)
    levels = card.frame.select("fact_id", "rate", "level")
    levelled = rows.drop("rate", "level").join(levels, on="fact_id")
    if levelled.is_empty():
        raise SftbenchError("levels none of the facts that were asked", where=card.name)
    return ASKED.conform(levelled.sort("fact_id"))


def _require_of_result(what: str, digest: object, known: set[str], card: MasteryCard) -> None:
    if digest not in known:
        raise SftbenchError(
            f"this mastery card is for other {what} (digest {str(digest)[:12]}) than this result "
            f"(digest {', '.join(sorted(one[:12] for one in known))})",
            where=card.name,
            remedy="Name a card of the base and the facts that were compared.",
        )


def _scored(one: Answered, rows: pl.DataFrame, how: Rescoring) -> Answered:
    kept = one.answers.join(rows.select("fact_id"), on="fact_id", how="semi")
    return replace(one, answers=rescore(kept, rows, how.matching))


def _run_record(found: Finished, rows: pl.DataFrame, how: Rescoring, command: str) -> RunRecord:
    run = found.summary.run
    card, facts = how.card, how.facts
    asked_digest = digest_of_lines(rows["fact_id"])
    changed: dict[str, Any] = {
        "facts": run.facts.model_copy(
            update={
                "domains": tuple(sorted(set(rows["domain"]))),
                "asked": rows.height,
                "asked_digest": asked_digest,
                "unlevelled": run.facts.unlevelled + found.rows.height - rows.height,
                **({} if facts is None else {"name": facts.name, "digest": facts.digest}),
            }
        ),
        "card": run.card if card is None else {**card.record, "digest": card.digest},
        "prompt": run.prompt.model_copy(update={"how": how.matching}),
    }
    return run.model_copy(
        update={
            **changed,
            "key": digest_of(
                [
                    run.key,
                    how.matching,
                    changed["card"]["digest"],
                    changed["facts"].digest,
                    asked_digest,
                ]
            ),
            "software": {**run.software, "sftbench": sftbench.__version__},
            "command": command,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": 0.0,
        }
    )


def _said(found: Finished, rows: pl.DataFrame, how: Rescoring) -> str:
    """Return the sentence that says what was scored again from what, and by what."""
    before = found.summary.run
    by: Sequence[str] = [
        f"matching {how.matching}"
        + (f" (was {before.prompt.how})" if how.matching != before.prompt.how else " (as before)"),
        *([f"the levels of {how.card.name}"] if how.card else []),
        *([f"the answers in {how.facts.name} ({how.facts.digest[:12]})"] if how.facts else []),
    ]
    left_out = found.rows.height - rows.height
    return (
        f"Scored again from the answers in {found.folder} (made {before.made}), without a model, "
        f"by {', '.join(by)}."
        + (f" {left_out} facts without a level in that card are left out." if left_out else "")
    )
