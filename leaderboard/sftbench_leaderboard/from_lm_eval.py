"""The draft of a record from what lm-eval wrote for base and tuned model, samples and all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from sftbench.checkpoints.folder import Checkpoint, open_checkpoint
from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.tokenizers import tokenizer_digest
from sftbench.checkpoints.variants import TUNED
from sftbench.common.digests import digest_of_lines
from sftbench.common.errors import SftbenchError
from sftbench.common.files import read_json
from sftbench.facts.table import FactSet
from sftbench.gate.from_lm_eval import RESULTS, side_of_lm_eval
from sftbench.gate.sides import GREEDY, Side, require_same
from sftbench.mastery.bundled import resolve_card
from sftbench.mastery.card import MasteryCard
from sftbench.recipes.record import read_record
from sftbench_leaderboard.from_compare import card_fields
from sftbench_leaderboard.layout import model_name, suite_name
from sftbench_leaderboard.named import Names, base_label, facts_of_folder
from sftbench_leaderboard.submit import Draft, cut_texts
from sftbench_leaderboard.text import LONG, cleaned


class Asked(NamedTuple):
    """Whose outputs they are; lm-eval does not record weights, so the models must be at hand.

    Attributes:
        base_outputs, tuned_outputs: folders that lm_eval --log_samples --output_path wrote.
        base, tuned: the checkpoints: local folders, or models of the hub.
    """

    base_outputs: Path
    tuned_outputs: Path
    base: str
    tuned: str


def draft_of(asked: Asked, facts: FactSet, card: str | None, names: Names, command: str) -> Draft:
    """Return a draft from two folders of lm-eval's outputs.

    Log-probabilities are unknown there, and stay so.

    Args:
        asked: the outputs and the models.
        facts: the fact set that was asked.
        card: the mastery card that gave the levels; None for the one that ships.
        names: what model and base are called.
        command: the command line of this submission.

    Raises:
        SftbenchError: outputs that are broken, of other facts or levels, or asked otherwise than
            the suite asks.
    """
    before, after = (side_of_lm_eval(one) for one in (asked.base_outputs, asked.tuned_outputs))
    require_same(before, after)
    if after.identity["decoding"] != GREEDY:
        raise SftbenchError("answers were not drawn greedily", where=asked.tuned_outputs)
    base, tuned = (open_checkpoint(resolve(one)) for one in (asked.base, asked.tuned))
    levels = resolve_card(card, base_digest=base.digest, facts=facts)
    items = _items(before, after, levels)
    results = _results(asked.tuned_outputs)
    fields: dict[str, Any] = {
        "suite": _suite(after.identity, facts),
        "facts": {
            "name": facts.name,
            "digest": facts.digest,
            "asked": items.height,
            "asked_digest": digest_of_lines(items["fact_id"]),
            "limit": None,
            "part": "all",
        },
        "card": card_fields(levels.record, levels.digest),
        "base": {
            "name": base_label(names.base or asked.base),
            "digest": base.digest,
            "tokenizer_digest": tokenizer_digest(base.path),
        },
        "model": _model(base, tuned, names, asked.tuned),
        **_tuning(tuned, names, results),
        "software": _software(results),
        "engine": {
            "engine": "lm-eval",
            **{cleaned(name): cleaned(value) for name, value in after.circumstances.items()},
        },
        "made": _made(results, asked.tuned_outputs),
        "command": cleaned(command, LONG),
    }
    answers = facts.frame.select("fact_id", "answers")
    return Draft(fields, cut_texts(items, answers, after.identity["matching"]))


def _suite(identity: Mapping[str, str], facts: FactSet) -> dict[str, Any]:
    chat = identity["chat template"] == "applied"
    return {
        "name": suite_name(facts.name, identity["prompt"], chat=chat),
        "version": identity["suite"],
        "prompt": identity["prompt"],
        "shots": _number(identity["shots"], "shots"),
        "max_new_tokens": _number(identity["longest answer"], "longest answer"),
        "matching": identity["matching"],
        "chat": chat,
    }


def _model(base: Checkpoint, tuned: Checkpoint, names: Names, ref: str) -> dict[str, Any]:
    parameters, template = facts_of_folder(str(tuned.path))
    return {
        "name": model_name(names.model or ref),
        "digest": TUNED.digest(base.digest, tuned.digest),
        "variant": TUNED.name,
        "tuned_digest": tuned.digest,
        "tokenizer_digest": tokenizer_digest(tuned.path),
        "chat_template_digest": template,
        "parameters": names.parameters or parameters,
    }


def _tuning(tuned: Checkpoint, names: Names, results: Mapping[str, Any]) -> dict[str, Any]:
    """Return recipe, size of the update and cost, as far as a recipe record tells them."""
    record = read_record(tuned.path)
    method = names.method or ("full" if record else None)
    recipe = record.recipe.model_dump(mode="json") if record else {}
    return {
        "recipe": {"method": method, **recipe} if method else None,
        "update_norm": record.update.absolute if record else None,
        "cost": {
            "seconds": _seconds(results),
            "training_seconds": record.training.seconds if record else None,
            "tokens": record.training.tokens if record else None,
        },
    }


def _items(before: Side, after: Side, card: MasteryCard) -> pl.DataFrame:
    """Return the items of both sides, with the rates of the card whose levels they must have."""
    levels = card.frame.select("fact_id", "rate", card_level="level")
    items = after.facts.select("fact_id", "relation", "domain", "level", "answer")
    for side, prefix in ((before, "base_"), (after, "")):
        run = side.runs[0]
        assert run.said is not None
        said = run.said.rename({"said": f"{prefix}text"})
        items = items.join(said, on="fact_id")
        items = items.join(run.right.rename({"right": f"{prefix}correct"}), on="fact_id")
    joined = items.join(levels, on="fact_id", how="left")
    other = joined.filter(~pl.col("level").eq_missing(pl.col("card_level"))).height
    if other:
        raise SftbenchError(
            f"{other:,} facts have another level in this card than lm-eval asked them in",
            where=card.name,
            remedy="Name the card that lm-eval took, with --mastery.",
        )
    return joined.with_columns(
        base_logprob=pl.lit(None, pl.Float64),
        logprob=pl.lit(None, pl.Float64),
        noise=pl.lit([], pl.List(pl.Boolean)),
    ).sort("fact_id")


def _results(folder: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(sorted(folder.rglob(RESULTS))[0])
    return found


def _made(results: Mapping[str, Any], folder: Path) -> str:
    """Return when lm-eval ran; its results say it in seconds since 1970."""
    date = results.get("date")
    if not isinstance(date, int | float) or not 0 < date < 2**40:
        raise SftbenchError("does not say when lm-eval ran (date)", where=folder)
    return datetime.fromtimestamp(date, UTC).isoformat(timespec="seconds")


def _seconds(results: Mapping[str, Any]) -> float | None:
    try:
        return max(0.0, float(results["total_evaluation_time_seconds"]))
    except (KeyError, TypeError, ValueError):
        return None


def _software(results: Mapping[str, Any]) -> dict[str, str]:
    import sftbench

    told = {
        "lm-eval": results.get("lm_eval_version"),
        "transformers": results.get("transformers_version"),
    }
    known = {name: cleaned(str(value)) for name, value in told.items() if value is not None}
    return {"sftbench": sftbench.__version__, **known}


def _number(text: str, what: str) -> int:
    if not text.isdecimal():
        raise SftbenchError(f"was asked with several values of {what} ({cleaned(text)})")
    return int(text)
