"""The whole run: check, ask every variant that is not answered yet, sum up, write the report."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import polars as pl

import sftbench
from sftbench.analysis.summary import (
    CheckpointRecord,
    FactsRecord,
    PromptRecord,
    RunRecord,
    Summary,
)
from sftbench.checkpoints.restore_report import RestoreReport
from sftbench.checkpoints.variants import Variant
from sftbench.common.digests import software_versions
from sftbench.common.files import atomic_file, write_json
from sftbench.common.progress import progress
from sftbench.compare.plan import Plan, make_plan
from sftbench.compare.request import Request
from sftbench.compare.store import Store
from sftbench.compare.summarise import Answered, items_of, lost_of, variant_results
from sftbench.compare.weights import Weights
from sftbench.engines.protocol import Engine
from sftbench.engines.settings import EngineFactory
from sftbench.report.html import render
from sftbench.scoring.answers import Asked, ask

SUMMARY, REPORT, LOST = "summary.json", "report.html", "lost.csv"
PASSES = 2
"""Each fact goes through the engine twice: for its answer and for its log-probability."""
ENGINE_SOFTWARE = ("torch", "transformers", "tokenizers")

Notify = Callable[[str], None]
"""Told, once each and as soon as it is known, what a reader must know."""


class Compared(NamedTuple):
    """The result of a comparison: its summary and its lost facts, most telling first."""

    summary: Summary
    lost: pl.DataFrame


def run(request: Request, factory: EngineFactory, notify: Notify = lambda _: None) -> Compared:
    """Compare, and leave answers, summary, lost facts and report in ``request.out``.

    A run that was stopped goes on where it stood: a variant whose answers are there under the
    same key is not asked again, so that a kill loses one variant at most.

    Raises:
        SftbenchError: the parts do not fit together, the folder holds something else, the
            models do not match, or a variant cannot be asked; the folder then holds no more than
            the variants that were answered before.
    """
    began = time.monotonic()
    plan = make_plan(request)
    store = Store(request.out, plan)
    store.require_ours()
    for warning in plan.warnings:
        notify(warning)
    answered, present = _answer_all(plan, store, factory)
    found = [*_findings(answered), *_engine_findings(answered, present)]
    for warning in found:
        notify(warning)
    items = items_of(answered, plan.rows)
    lost = lost_of(items, answered)
    summary = Summary(
        run=_run_record(plan, answered, time.monotonic() - began),
        variants=variant_results(answered, items),
        recipe=None if plan.recipe is None else plan.recipe.model_dump(mode="json"),
        warnings=(*plan.warnings, *found),
    )
    _write(request, Compared(summary, lost))
    return Compared(summary, lost)


def _answer_all(
    plan: Plan, store: Store, factory: EngineFactory
) -> tuple[list[Answered], Mapping[str, str]]:
    """Return the answers of all variants, and what is known of the present engine.

    Only variants that the store does not hold are asked. Where that is none, there is no engine,
    and of the present one only the software is known.
    """
    present = software_versions(*ENGINE_SOFTWARE)
    found = {variant: store.find(variant) for variant in plan.variants}
    missing = [variant for variant, one in found.items() if one is None]
    if missing:
        weights = Weights.read(plan)
        engine = factory(plan.base.path, plan.request.engine)
        present = engine.describe()
        for place, variant in enumerate(missing, start=1):
            title = f"{variant.name} ({place} of {len(missing)})"
            found[variant] = _answer(plan, store, engine, weights, variant, title)
    return [one for one in found.values() if one is not None], present


def _answer(
    plan: Plan, store: Store, engine: Engine, weights: Weights, variant: Variant, title: str
) -> Answered:
    began = time.monotonic()
    tensors, record = weights.of(variant)
    engine.load(tensors)
    with progress(title, total=PASSES * plan.rows.height, unit="prompts") as advance:
        frame = ask(
            engine,
            plan.rows,
            plan.request.prompt,
            plan.texts,
            Asked(variant.name, plan.variant_id(variant)),
            advance=advance,
        )
    seconds = round(time.monotonic() - began, 3)
    return store.keep(
        variant, frame, {**record, "seconds": seconds, "engine": dict(engine.describe())}
    )


def _findings(answered: Sequence[Answered]) -> list[str]:
    """Return what the variants' own records warn of; what several share is said once."""
    found = []
    if answered[1].record["update_norm"] == 0:
        found.append("The tuned model has the base's weights: there is nothing to compare.")
    names: dict[str, list[str]] = {}
    for one in answered[2:]:
        for warning in RestoreReport(**one.record["restore"]).warnings():
            names.setdefault(warning, []).append(one.variant.name)
    return found + [f"{' and '.join(those)}: {warning}" for warning, those in names.items()]


def _engine_findings(answered: Sequence[Answered], present: Mapping[str, str]) -> list[str]:
    """Return a warning for each way in which kept answers were made by another engine.

    They are held against the present engine and, in what is not known of that, against the one
    that asked the tuned model, so that a mixed folder stays marked when it is summed up again.
    """
    reference = {**answered[1].record["engine"], **present}
    names: dict[str, list[str]] = {}
    for one in answered:
        engine = one.record["engine"]
        other = [
            f"{name.replace('_', ' ')} {engine[name]} instead of {reference[name]}"
            for name in sorted(engine.keys() & reference.keys())
            if engine[name] != reference[name]
        ]
        if other:
            names.setdefault(", ".join(other), []).append(one.variant.name)
    return [
        f"{' and '.join(those)}: answered in an earlier run with {other}; that alone can change "
        "an answer. Compare in a new folder to rule it out."
        for other, those in names.items()
    ]


def _run_record(plan: Plan, answered: Sequence[Answered], seconds: float) -> RunRecord:
    request = plan.request
    tuned = answered[1].record
    return RunRecord(
        key=plan.key,
        base=CheckpointRecord(
            name=request.base_name or plan.base.path.name,
            digest=plan.base.digest,
            tokenizer_digest=plan.base_tokenizer,
        ),
        tuned=CheckpointRecord(
            name=request.tuned_name or plan.tuned.path.name,
            digest=plan.tuned.digest,
            tokenizer_digest=plan.tuned_tokenizer,
        ),
        update_norm=tuned["update_norm"],
        facts=_facts_record(plan),
        card={**request.card.record, "digest": request.card.digest},
        prompt=PromptRecord.model_validate(request.prompt),
        arithmetic=request.arithmetic,
        engine=dict(tuned["engine"]),
        software={
            "sftbench": sftbench.__version__,
            "python": platform.python_version(),
            **software_versions("torch", "transformers", "polars"),
        },
        command=request.command,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
    )


def _facts_record(plan: Plan) -> FactsRecord:
    request = plan.request
    return FactsRecord(
        name=request.facts.name,
        digest=request.facts.digest,
        domains=tuple(sorted(set(plan.rows["domain"]))),
        asked=plan.rows.height,
        asked_digest=plan.asked_digest,
        unlevelled=plan.unlevelled,
        limit=request.limit,
    )


def _write(request: Request, compared: Compared) -> None:
    write_json(request.out / SUMMARY, compared.summary.model_dump(mode="json"))
    with atomic_file(request.out / LOST) as temporary:
        flat = compared.lost.with_columns(pl.col("healed_by").list.join("; "))
        flat.write_csv(temporary)
    with atomic_file(request.out / REPORT) as temporary:
        temporary.write_text(render(*compared), encoding="utf-8")
