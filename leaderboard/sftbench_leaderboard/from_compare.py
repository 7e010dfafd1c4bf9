"""Drafts of records from a finished comparison: one for each variant that was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from sftbench.analysis.summary import BASE, TUNED, Summary, VariantResult
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import Noise, Tuned
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.compare.answered import Answered
from sftbench.compare.finished import Finished
from sftbench.mastery.canonical import is_canonical
from sftbench.mastery.card import MasteryCard
from sftbench.scoring.suite import SUITE
from sftbench_leaderboard.layout import model_name, suite_name
from sftbench_leaderboard.named import Names, base_label, facts_of_folder
from sftbench_leaderboard.submit import Draft, cut_texts
from sftbench_leaderboard.text import LONG, cleaned

ALL = "all"


def drafts_of(result: Finished, names: Names, variants: Sequence[str] = ()) -> list[Draft]:
    """Return a draft for each variant that is named.

    Args:
        result: the comparison.
        names: what model and base are called, where the comparison does not say.
        variants: names or slugs; "all" for the tuned model and every restored one; none for the
            tuned model.

    Raises:
        SftbenchError: a variant is not there or is no model, the model has no name that a results
            folder can hold, or the answers are the ones that a restore was chosen on.
    """
    if result.summary.run.facts.part == "validation":
        raise SftbenchError(
            "holds the answers that a restore was chosen on, which are not scored",
            where=result.folder,
            remedy="Name the comparison itself.",
        )
    return [_draft(result, one, names) for one in _chosen(result, variants)]


def _chosen(result: Finished, variants: Sequence[str]) -> list[Answered]:
    if ALL in variants:
        return [one for one in result.answered if isinstance(one.variant, Tuned | Restored)]
    chosen = [result.variant(name) for name in variants or (TUNED,)]
    for one in chosen:
        if not isinstance(one.variant, Tuned | Restored):
            raise SftbenchError(
                f"{one.variant.name} is no model that a fine-tune made",
                where=result.folder,
                remedy="Name the tuned model or a restored variant.",
            )
    return chosen


def _draft(result: Finished, one: Answered, names: Names) -> Draft:
    summary = result.summary
    run, found = summary.run, _result_of(summary, one)
    fields = {
        "suite": _suite(summary),
        "facts": run.facts.model_dump(
            include={"name", "digest", "asked", "asked_digest", "limit", "part"}
        ),
        "card": card_fields(run.card, str(run.card["digest"])),
        "base": {
            "name": base_label(names.base or run.base.name),
            "digest": run.base.digest,
            "tokenizer_digest": run.base.tokenizer_digest,
        },
        "model": _model(summary, found, names),
        "recipe": _recipe(summary, names),
        "update_norm": run.update_norm,
        "restore": _restore(found),
        "checks": {"base_again": summary.noise.flips if summary.noise else None},
        "loss": _loss(summary, found.name),
        "mastery": _mastery(summary, found.name),
        "drift": _drift(summary, found.name),
        "tasks": found.tasks,
        "base_tasks": summary.base.tasks,
        "cost": _cost(summary, found),
        "software": _texts(run.software),
        "engine": _texts(run.engine),
        "made": run.made,
        "command": cleaned(run.command, LONG),
    }
    return Draft(fields, _items(result, one))


def _suite(summary: Summary) -> dict[str, Any]:
    prompt = summary.run.prompt
    return {
        "name": suite_name(summary.run.facts.name, prompt.name, chat=summary.chat),
        "version": SUITE,
        "prompt": prompt.name,
        "shots": prompt.shots,
        "max_new_tokens": prompt.max_new_tokens,
        "matching": prompt.how,
        "chat": summary.chat,
    }


def _model(summary: Summary, found: VariantResult, names: Names) -> dict[str, Any]:
    tuned = summary.run.tuned
    parameters, template = facts_of_folder(tuned.name)
    return {
        "name": model_name(names.model or tuned.name),
        "digest": found.variant_id,
        "variant": found.name,
        "tuned_digest": tuned.digest,
        "tokenizer_digest": tuned.tokenizer_digest,
        "chat_template_digest": template,
        "parameters": names.parameters or parameters,
    }


def card_fields(record: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """Return what a record says of a card, from the card's own record."""
    card = MasteryCard(pl.DataFrame(), record)
    return {
        "digest": digest,
        "estimator": card.estimator,
        "settings_digest": digest_of(record.get("settings")),
        "canonical": is_canonical(card),
    }


def _result_of(summary: Summary, one: Answered) -> VariantResult:
    return next(found for found in summary.variants if found.name == one.variant.name)


def _items(result: Finished, one: Answered) -> pl.DataFrame:
    base = result.variant(BASE).answers.select(
        "fact_id", base_text="text", base_correct="correct", base_logprob="answer_logprob"
    )
    mine = one.answers.select("fact_id", "text", "correct", logprob="answer_logprob")
    # Random changes have the size of the whole update: nothing to hold a restored variant against.
    draws = [
        other.answers.select("fact_id", pl.col("correct").alias(other.variant.name))
        for other in result.answered
        if isinstance(one.variant, Tuned) and isinstance(other.variant, Noise)
    ]
    items = result.rows.select(
        "fact_id", "relation", "domain", "level", "rate", answer=pl.col("answers").list.first()
    )
    for frame in (base, mine, *draws):
        items = items.join(frame, on="fact_id")
    names = [frame.columns[1] for frame in draws]
    noise = pl.concat_list(names) if names else pl.lit([], pl.List(pl.Boolean))
    how = result.summary.run.prompt.how
    return cut_texts(items.with_columns(noise=noise), result.rows, how)


def _recipe(summary: Summary, names: Names) -> dict[str, Any] | None:
    recipe = (summary.recipe or {}).get("recipe", {})
    plain = {
        cleaned(str(key)): cleaned(value) if isinstance(value, str) else value
        for key, value in recipe.items()
        if isinstance(value, str | int | float | bool)
    }
    method = names.method or ("full" if plain else None)
    return {"method": method, **plain} if method else None


def _restore(found: VariantResult) -> dict[str, Any] | None:
    report = found.restore or {}
    if "l2_removed" not in report or "share" not in report:
        return None
    return {"removed": report["l2_removed"], "scalars": report["share"]}


def _loss(summary: Summary, name: str) -> list[dict[str, Any]] | None:
    if summary.loss is None:
        return None
    return [
        {"domain": one.domain, "counts": one.counts, "forms": one.forms}
        for one in summary.loss.kinds
        if one.variant == name
    ]


def _mastery(summary: Summary, name: str) -> list[dict[str, Any]] | None:
    """Return the levels before and after; only the tuned model's mastery is measured again."""
    tables = summary.loss.tables if summary.loss is not None and name == TUNED else ()
    whole = [one for one in tables if one.relation is None]
    return [one.model_dump(include={"domain", "before", "after"}) for one in whole] or None


def _drift(summary: Summary, name: str) -> dict[str, float] | None:
    """Return the divergence from the base in each form of the texts, nats, and the paper's."""
    drift = summary.drift
    if drift is None:
        return None
    found: dict[str, float] = {}
    for row in drift.rows:
        if row.by == "form" and row.variant in (name, drift.floor):
            kind = f"{row.form}, {'floor' if row.variant == drift.floor else 'variant'}"
            found[f"KL(variant || base), {kind}"] = row.tuned_base.value
            found[f"KL(base || variant), {kind}"] = row.base_tuned.value
    paper = drift.paper_row(name)
    return found if paper is None else {**found, "the paper's, level 4": paper.kl.value}


def _cost(summary: Summary, found: VariantResult) -> dict[str, Any]:
    training = (summary.recipe or {}).get("training", {})
    return {
        "seconds": found.seconds,
        "training_seconds": training.get("seconds"),
        "tokens": training.get("tokens"),
    }


def _texts(values: Mapping[str, str]) -> dict[str, str]:
    return {cleaned(str(key)): cleaned(str(value)) for key, value in values.items()}


def is_comparison(folder: Path) -> bool:
    """Return whether a folder holds a finished comparison."""
    from sftbench.compare.result import SUMMARY

    return (folder / SUMMARY).is_file()
