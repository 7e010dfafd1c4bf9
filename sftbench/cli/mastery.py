"""`sftbench mastery`: level facts by how well a base model masters them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sftbench.cli.engine_options import Dtype, Engine, EngineOptions

if TYPE_CHECKING:
    from sftbench.mastery.choose import EstimatorName


def mastery(
    model: Annotated[str, typer.Option(help="Base model: a folder, smollm2 or lab.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The card's file.")],
    facts: Annotated[str, typer.Option(help="Fact table, or geography, or lab.")] = "geography",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Level only so many facts, balanced.")
    ] = None,
    split: Annotated[
        Literal["train", "test"] | None,
        typer.Option(
            help="Level only these facts: test are scored, train are what finetune --level takes."
        ),
    ] = None,
    estimator: Annotated[
        Literal["auto", "likelihood", "adaptive", "sampled"],
        typer.Option(
            help="likelihood reads chances off paths, sampled draws every completion, adaptive "
            "until a level is settled; auto: likelihood, by hf unless --engine vllm says sampled."
        ),
    ] = "auto",
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="Completions of each template, 10 by default; not by likelihood."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed is a fresh set of draws.")] = 0,
    matching: Annotated[
        Literal["words", "strict-paper"],
        typer.Option(help="At word boundaries, or plain substring."),
    ] = "words",
    engine: Engine = "auto",
    engine_options: EngineOptions = None,
    dtype: Dtype = "float32",
    rows: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Completions or paths at once; memory grows with it. Default: hf 420, vllm 256.",
        ),
    ] = None,
) -> None:
    """Level facts by how well a base model masters them; can be stopped and resumed."""
    from contextlib import closing

    from rich.console import Console

    from sftbench.checkpoints.folder import open_checkpoint
    from sftbench.checkpoints.names import name_of
    from sftbench.checkpoints.reference import resolve
    from sftbench.checkpoints.weights import read_tensors, require_finite
    from sftbench.common.files import require_free_file
    from sftbench.engines.settings import make_engine, parse_engine
    from sftbench.facts.reference import resolve_facts
    from sftbench.mastery.choose import can_forecast, estimator_for
    from sftbench.mastery.estimate import make_card
    from sftbench.mastery.select import require_some
    from sftbench.report.cards import print_card

    require_free_file(output)
    table = resolve_facts(facts)
    require_some(table, split)
    wanted = _wanted(estimator, engine, samples, with_templates=bool(table.templates))
    # The estimators differ in what they need more than the engines differ in speed.
    name = "hf" if engine == "auto" and wanted == "likelihood" else engine
    settings = parse_engine(name, dtype=dtype, options=engine_options).with_rows(rows)
    base = open_checkpoint(resolve(model))
    require_finite(read_tensors(base.path), base.path)
    how: dict[str, Any] = {"samples": samples or 10, "how": matching, "seed": seed}
    measure, said = estimator_for(table, wanted, **how)
    with closing(make_engine(base.path, settings)) as live:
        if estimator == "auto" and wanted == "likelihood" and not can_forecast(live):
            measure, said = estimator_for(table, "sampled", **how)
        Console(stderr=True).print(said, markup=False)
        card = make_card(
            live,
            table,
            measure,
            model_name=name_of(base.path),
            model_digest=base.digest,
            output=output,
            limit=limit,
            split=split,
        )
    print_card(card.record, card.frame, table.frame, output)


def _wanted(
    estimator: Literal["auto", "likelihood", "adaptive", "sampled"],
    engine: str,
    samples: int | None,
    *,
    with_templates: bool,
) -> EstimatorName:
    """Return the estimator that is meant, as far as it can be told before the engine starts.

    Raises:
        SftbenchError: likelihood by vLLM, or options that would do nothing.
    """
    from sftbench.common.errors import SftbenchError
    from sftbench.mastery.likelihood import cannot_forecast

    if not with_templates:
        if estimator in ("likelihood", "adaptive"):
            raise SftbenchError(
                f"the estimator {estimator} needs cloze templates, and these facts have none",
                where="--estimator",
                remedy="Leave it out: their questions are asked instead.",
            )
        return "sampled"
    if estimator == "auto":
        return "sampled" if engine == "vllm" or samples is not None else "likelihood"
    if estimator == "likelihood" and engine == "vllm":
        raise cannot_forecast(engine)  # now, not after the engine has started
    if estimator == "likelihood" and samples is not None:
        raise SftbenchError(
            "the estimator likelihood draws no samples",
            where="--samples",
            remedy="Leave it out, or use --estimator sampled.",
        )
    return estimator
