"""The whole run: check, ask every variant that is not answered yet, sum up, write the report."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import sftbench
from sftbench.analysis.summary import (
    CheckpointRecord,
    FactsRecord,
    PromptRecord,
    RepairChoice,
    RunRecord,
)
from sftbench.checkpoints.restore_report import RestoreReport
from sftbench.checkpoints.rules import Restored
from sftbench.checkpoints.variants import Again, Noise, Variant
from sftbench.common.digests import software_versions
from sftbench.common.progress import progress
from sftbench.compare.answered import Answered
from sftbench.compare.bench import Bench, kept, lent
from sftbench.compare.drift import Drift, measure_drift, require_one_vocabulary
from sftbench.compare.evidence import chance_of
from sftbench.compare.loss_result import tell_losses
from sftbench.compare.losses import Losses
from sftbench.compare.movement import measure_movement
from sftbench.compare.plan import Plan, make_plan
from sftbench.compare.request import Request
from sftbench.compare.result import REPORT, SUMMARY, Compared, sum_up, write_result
from sftbench.compare.sides import Side
from sftbench.compare.store import Store
from sftbench.compare.weights import VariantWeights
from sftbench.engines.protocol import Engine
from sftbench.engines.settings import EngineFactory
from sftbench.scoring.answers import Asked, ask

if TYPE_CHECKING:
    import polars as pl

__all__ = ["REPORT", "SUMMARY", "run"]

PASSES = 2
"""Each fact goes through the engine twice: for its answer and for its log-probability."""
ENGINE_SOFTWARE = ("torch", "transformers", "tokenizers")

OTHER_SIZE = 0.05
"""A random change whose norm is off by more than this part is not of the fine-tune's size."""

Notify = Callable[[str], None]
"""Told, once each and as soon as it is known, what a reader must know."""


def run(
    request: Request,
    factory: EngineFactory,
    notify: Notify = lambda _: None,
    *,
    repair: RepairChoice | None = None,
) -> Compared:
    """Compare, and leave answers, summary, lost facts and report in ``request.out``.

    A run that was stopped goes on where it stood: a variant whose answers are there under the
    same key is not asked again, so that a kill loses one variant at most.

    Args:
        request: what is asked for.
        factory: makes engines.
        notify: told what a reader must know.
        repair: how one of the restored variants was chosen, for the summary.

    Raises:
        SftbenchError: the parts do not fit together, the folder holds something else, the
            models do not match, or a variant cannot be asked; the folder then holds no more than
            the variants that were answered before.
    """
    began = time.monotonic()
    plan = make_plan(request)
    store = Store(request.out, plan)
    store.require_ours()
    if request.drift:
        require_one_vocabulary(plan)  # now, not after everything was asked
    for warning in plan.warnings:
        notify(warning)
    weights = VariantWeights(plan)
    # Answers, kinds of loss and drift are asked of the same engines.
    with kept(factory, plan.base.path, request.engine) as bench:
        answered, present = _answer_all(plan, store, bench, weights)
        found = [*_findings(plan, answered), *_engine_findings(answered, present)]
        for warning in found:
            notify(warning)
        more = _measured_beside(plan, answered, bench, weights)
    compared = sum_up(
        _run_record(plan, answered, time.monotonic() - began),
        answered,
        plan.rows,
        request.facts,
        chance_of(request.card, plan.rows),
        recipe=None if plan.recipe is None else plan.recipe.model_dump(mode="json"),
        warnings=(*plan.warnings, *found),
        chat=request.chat != "none",
        repair=repair,
        **more,
    )
    write_result(request.out, compared, plan.rows)
    return compared


def _measured_beside(
    plan: Plan, answered: Sequence[Answered], bench: Bench, weights: VariantWeights
) -> dict[str, Any]:
    """Return what a comparison holds beside its answers, as fields of its result."""
    found: dict[str, Any] = {}
    losses, drift = Losses(plan, answered), Drift(plan)
    if losses.wanted_at_all:
        told = tell_losses(losses, bench, weights)
        found |= {"loss": told.result, "kinds": told.items}
    if drift.wanted_at_all:
        found["movement"] = measure_movement(plan, drift.folder)
        found["drift"] = measure_drift(plan, bench, weights)
    return found


def _answer_all(
    plan: Plan, store: Store, factory: EngineFactory, weights: VariantWeights
) -> tuple[list[Answered], Mapping[str, str]]:
    """Return the answers of all variants, and what is known of the present engine.

    Only variants that the store does not hold are asked. Where that is none, there is no engine,
    and of the present one only the software is known. Where base and tuned model need an engine
    each, the first is closed before the second is made.
    """
    present = software_versions(*ENGINE_SOFTWARE)
    missing = [variant for variant in plan.variants if _is_missing(plan, store, variant)]
    # An engine is made once: those that share one are asked in a row, the base's first.
    missing.sort(key=lambda one: plan.sides.engine_of(one) != plan.base)
    if missing:
        weights.require_fit()
        places = {variant: place for place, variant in enumerate(missing, start=1)}
        for folder, those in groupby(missing, lambda one: plan.sides.engine_of(one).path):
            with lent(factory, folder, plan.request.engine) as engine:
                present = engine.describe()
                for variant in those:
                    title = f"{variant.name} ({places[variant]} of {len(missing)})"
                    _ask_variant(_Asking(plan, store, engine, weights), variant, title)
    return [_kept(plan, store, variant) for variant in plan.variants], present


def _is_missing(plan: Plan, store: Store, variant: Variant) -> bool:
    """Return whether a variant has answers or figures of tasks to give yet."""
    return store.find(variant) is None or bool(_missing_tasks(plan, store, variant))


def _missing_tasks(plan: Plan, store: Store, variant: Variant) -> list[str]:
    """Return the tasks that a variant has no figures of; what shows noise is run on none."""
    if plan.tasks is None or isinstance(variant, Noise | Again):
        return []
    return [name for name in plan.tasks.names if store.find_task(variant, name) is None]


def _kept(plan: Plan, store: Store, variant: Variant) -> Answered:
    """Return what the store holds of a variant, once everything was asked."""
    found = store.find(variant)
    assert found is not None
    names = () if plan.tasks is None or isinstance(variant, Noise | Again) else plan.tasks.names
    figures = [one for name in names for one in store.find_task(variant, name) or ()]
    tasks = [one.model_dump(mode="json") for one in figures]
    return replace(found, record={**found.record, "tasks": tasks})


@dataclass(frozen=True)
class _Asking:
    """What variants are asked with."""

    plan: Plan
    store: Store
    engine: Engine
    weights: VariantWeights


def _ask_variant(asking: _Asking, variant: Variant, title: str) -> None:
    """Load a variant and ask what is missing of it: the facts, the tasks, or both."""
    began = time.monotonic()
    plan, store = asking.plan, asking.store
    side = plan.sides.of(variant)
    weights = asking.weights.of(variant)
    asking.engine.load(weights)
    record = asking.weights.record(variant, weights)
    if store.find(variant) is None:
        frame = _answers(asking, variant, side, title)
        seconds = round(time.monotonic() - began, 3)
        engine = dict(asking.engine.describe())
        store.keep(variant, frame, {**record, "seconds": seconds, "engine": engine})
    for name in _missing_tasks(plan, store, variant):
        assert plan.tasks is not None
        store.keep_task(variant, name, plan.tasks.run(name, asking.engine, chat=side.chat))


def _answers(asking: _Asking, variant: Variant, side: Side, title: str) -> pl.DataFrame:
    plan = asking.plan
    with progress(title, total=PASSES * plan.rows.height, unit="prompts") as advance:
        return ask(
            asking.engine,
            plan.rows,
            plan.request.prompt,
            side.texts,
            Asked(variant.name, plan.variant_id(variant), side.chat),
            batch=variant.batch if isinstance(variant, Again) else None,
            advance=advance,
        )


def _findings(plan: Plan, answered: Sequence[Answered]) -> list[str]:
    """Return what the variants' own records warn of; what several share is said once."""
    notes = answered[1].record.get("notes", [])
    found = [note for note in notes if note not in plan.warnings]
    if answered[1].record["update_norm"] == 0:
        found.append("The tuned model has the base's weights: there is nothing to compare.")
    names: dict[str, list[str]] = {}
    for one in answered:
        for warning in _warnings(one):
            names.setdefault(warning, []).append(one.variant.name)
    return found + [f"{' and '.join(those)}: {warning}" for warning, those in names.items()]


def _warnings(one: Answered) -> Sequence[str]:
    """Return what the making of a variant warns of."""
    if isinstance(one.variant, Restored):
        return RestoreReport.of(one.record["restore"]).warnings()
    if not isinstance(one.variant, Noise):
        return ()
    off = one.record["noise"]["ratio"] - 1
    if abs(off) <= OTHER_SIZE:
        return ()
    size = f"{abs(off):.0%} {'larger' if off > 0 else 'smaller'} than the fine-tune's update"
    form = one.record["noise"]["dtype"]
    return [
        f"the random change is {size}; the base's tensors, as {form}, allow none that is closer"
    ]


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
            tokenizer_digest=plan.sides.base.tokenizer,
        ),
        tuned=CheckpointRecord(
            name=request.tuned_name or plan.tuned.path.name,
            digest=plan.tuned.digest,
            tokenizer_digest=plan.sides.tuned.tokenizer,
        ),
        update_norm=tuned["update_norm"],
        facts=_facts_record(plan),
        card={**request.card.record, "digest": request.card.digest},
        prompt=PromptRecord.model_validate(request.prompt),
        arithmetic=_arithmetic(request),
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


def _arithmetic(request: Request) -> str:
    """Return the number formats of the rankings, as they are named."""
    return ", ".join(dict.fromkeys(rule.arithmetic for rule in request.restored)) or "fp32"


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
        part=request.part,
    )
