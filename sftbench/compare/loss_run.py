"""The run that tells losses apart: every variant asked once more, the base last; resumable."""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from sftbench.checkpoints.variants import BASE, Base, Variant
from sftbench.common.progress import progress
from sftbench.compare.bench import lent
from sftbench.compare.chat import has_template, write_chats
from sftbench.compare.losses import Losses
from sftbench.compare.weights import VariantWeights
from sftbench.facts.shots import shots_of
from sftbench.loss.again import PURPOSES, missing
from sftbench.loss.confidence import own_confidence
from sftbench.loss.forms import Speaker, ask_in_forms

if TYPE_CHECKING:
    import polars as pl

    from sftbench.engines.protocol import Engine
    from sftbench.engines.settings import EngineFactory
    from sftbench.scoring.answers import ShotsOf

TITLES = {
    "kind": "mastery again",
    "itself": "mastery, to hold the base against itself",
    "level": "levels again",
}


def measure_losses(losses: Losses, factory: EngineFactory, weights: VariantWeights) -> None:
    """Measure what is not there yet; a kill loses a batch of facts at most.

    The base comes last: it is measured on all that the others lost and cannot say otherwise.

    Raises:
        SftbenchError: as for a comparison.
    """
    plan = losses.plan
    order = sorted({*losses.losers, *losses.confident}, key=lambda one: (one == BASE, one.name))
    # An engine is made once: those that share one are asked in a row.
    order.sort(key=lambda one: plan.sides.engine_of(one) == plan.base)
    for folder, those in groupby(order, lambda one: plan.sides.engine_of(one).path):
        # Looked at one by one: what a variant needs depends on what the ones before it said.
        missing_ones = [one for one in those if isinstance(one, Base) or _is_open(losses, one)]
        if not any(_is_open(losses, one) for one in missing_ones):
            continue
        weights.require_fit()
        with lent(factory, folder, plan.request.engine) as engine:
            losses.decide(engine)
            for variant in missing_ones:
                if _is_open(losses, variant):
                    engine.load(weights.of(variant))
                    _measure(losses, engine, variant)


def _is_open(losses: Losses, variant: Variant) -> bool:
    """Return whether anything of a variant is not there yet."""
    if variant in losses.confident and losses.confidence(variant) is None:
        return True
    if not isinstance(variant, Base) and losses.forms(variant) is None:
        return True
    return any(
        wanted.height and missing(losses.journal(variant, purpose), wanted)
        for purpose in PURPOSES
        if (wanted := losses.wanted(variant, purpose)).height
    )


def _measure(losses: Losses, engine: Engine, variant: Variant) -> None:
    name = variant.name
    if variant in losses.confident and losses.confidence(variant) is None:
        rows = next(one.answers for one in losses.answered if one.variant == variant)
        side = losses.plan.sides.of(variant)
        with progress(f"{name}: own answers", rows.height, unit="facts") as advance:
            found = own_confidence(engine, rows, side.texts, chat=side.chat, advance=advance)
        losses.keep("confidence", variant, found)
    if not isinstance(variant, Base) and losses.forms(variant) is None:
        losses.keep("forms", variant, _forms(losses, engine, variant))
    for purpose in PURPOSES:
        rows = losses.wanted(variant, purpose)
        again, journal = losses.again(variant, purpose), losses.journal(variant, purpose)
        again.run(engine, rows, journal, f"{name}: {TITLES[purpose]}")


def _forms(losses: Losses, engine: Engine, variant: Variant) -> pl.DataFrame:
    import polars as pl

    rows = pl.concat([losses.lost(variant), losses.tried(variant)])
    speaker = speaker_of(losses, variant)
    total = rows.height * len(speaker.forms)
    with progress(f"{variant.name}: other forms", total, unit="prompts") as advance:
        return ask_in_forms(engine, rows, speaker, variant.name, advance)


def speaker_of(losses: Losses, variant: Variant) -> Speaker:
    """Return how a variant was asked and how it can be asked otherwise."""
    plan = losses.plan
    side = plan.sides.of(variant)
    folder = side.checkpoint.path
    write = partial(write_chats, folder, "tuned model") if has_template(folder) else None
    return Speaker(
        prompt=plan.request.prompt,
        chat=side.chat,
        texts=dict(zip(plan.rows["fact_id"], side.texts, strict=True)),
        shots=_shots(losses),
        write_chats=write,
    )


def _shots(losses: Losses) -> ShotsOf | None:
    """Return the shots of the facts, None where a relation asked has none."""
    sets = shots_of(losses.plan.request.facts)
    relations = set(losses.plan.rows["relation"])
    return sets if all(sets.by_relation.get(name) for name in relations) else None
