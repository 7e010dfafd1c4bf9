"""`sftbench mastery`: level facts by how well a base model masters them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from sftbench.cli.engine_options import Dtype, Engine, EngineOptions


def mastery(
    model: Annotated[str, typer.Option(help="Base model: a folder, smollm2 or lab.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The card's file.")],
    facts: Annotated[str, typer.Option(help="Fact table, or geography, or lab.")] = "geography",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Level only so many facts, balanced.")
    ] = None,
    estimator: Annotated[
        Literal["auto", "likelihood", "adaptive", "sampled"],
        typer.Option(
            help="likelihood reads chances off paths, sampled draws every completion, adaptive "
            "until a level is settled; auto: likelihood, or sampled where vllm answers."
        ),
    ] = "auto",
    samples: Annotated[
        int, typer.Option(min=1, help="Completions of each template, unless by likelihood.")
    ] = 10,
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
            min=1, help="Completions at once; memory grows with it. Default: hf 420, vllm 256."
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
    from sftbench.mastery.choose import estimator_for
    from sftbench.mastery.estimate import make_card
    from sftbench.mastery.likelihood import cannot_forecast
    from sftbench.report.cards import print_card

    require_free_file(output)
    # The estimators differ in what they need more than the engines differ in speed.
    name = "hf" if engine == "auto" and estimator in ("auto", "likelihood") else engine
    settings = parse_engine(name, dtype=dtype, options=engine_options).with_rows(rows)
    if estimator == "auto":
        estimator = "likelihood" if settings.name == "hf" else "sampled"
    if estimator == "likelihood" and settings.name != "hf":
        raise cannot_forecast(settings.name)  # now, not after the engine has started
    table = resolve_facts(facts)
    base = open_checkpoint(resolve(model))
    require_finite(read_tensors(base.path), base.path)
    measure, said = estimator_for(table, estimator, samples=samples, how=matching, seed=seed)
    Console(stderr=True).print(said, markup=False)
    with closing(make_engine(base.path, settings)) as live:
        card = make_card(
            live,
            table,
            measure,
            model_name=name_of(base.path),
            model_digest=base.digest,
            output=output,
            limit=limit,
        )
    print_card(card.record, card.frame, table.frame, output)
