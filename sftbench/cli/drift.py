"""`sftbench drift`: how far a fine-tune moved what a model predicts, and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sftbench.cli.compare_options import (
    BaseModel,
    BatchSize,
    Domain,
    FactsTable,
    Limit,
    Mastery,
    OutputFolder,
    Rules,
    note_aside,
    request_of,
    require_known,
)
from sftbench.cli.engine_options import Dtype, Engine, EngineOptions
from sftbench.cli.rule_options import all_rules

if TYPE_CHECKING:
    from sftbench.analysis.drift import DriftResult
    from sftbench.analysis.movement import MovementResult


def drift(
    tuned: Annotated[str, typer.Option(help="Tuned model: a folder, a hub id, or an adapter.")],
    output: OutputFolder,
    base: BaseModel = None,
    against: Annotated[
        str | None,
        typer.Option(help="Another model tuned from that base: the angle between the updates."),
    ] = None,
    facts: FactsTable = "geography",
    mastery: Mastery = None,
    restore: Annotated[
        str | None, typer.Option(help="Restored variants too: 1,5,20 (% of the scalars), 20%norm.")
    ] = None,
    rule: Rules = None,
    noise: Annotated[
        int,
        typer.Option(min=0, max=100, help="Random changes of the fine-tune's size beside it."),
    ] = 1,
    prompt: Annotated[
        Literal["fewshot", "paper"], typer.Option(help="How questions are put.")
    ] = "fewshot",
    engine: Engine = "auto",
    engine_options: EngineOptions = None,
    dtype: Dtype = "float32",
    batch_size: BatchSize = None,
    limit: Limit = None,
    domain: Domain = None,
) -> None:
    """Say how far a fine-tune moved the predictions (KL, token by token) and the weights."""
    from sftbench.checkpoints.reference import resolve
    from sftbench.compare.drift import run_drift
    from sftbench.engines.settings import make_engine, parse_engine
    from sftbench.facts.prompts import PROMPTS
    from sftbench.facts.table import DOMAINS

    require_known("--domain", domain, DOMAINS)
    request = request_of(
        tuned,
        base,
        facts,
        mastery,
        output,
        prompt=PROMPTS[prompt],
        restored=all_rules(rule, restore),
        noise=noise,
        engine=parse_engine(engine, dtype=dtype, batch_size=batch_size, options=engine_options),
        limit=limit,
        domain=domain,
        drift=True,
    )
    other = None if against is None else resolve(against)
    found, moved = run_drift(request, make_engine, note_aside(), other)
    show_drift(found, moved, output)


def show_drift(found: DriftResult, moved: MovementResult, output: Path) -> None:
    """Print the tables, and where the files are."""
    from rich.console import Console

    from sftbench.compare.drift import DRIFT_FILE
    from sftbench.report.drift_tables import drift_tables
    from sftbench.report.drift_words import drift_sentence, paper_sentence, plain_name
    from sftbench.report.movement_tables import movement_table

    console = Console()
    for sentence in (drift_sentence(found), paper_sentence(found)):
        console.print(sentence, highlight=False, markup=False)
    for table in (*drift_tables(found, plain_name), movement_table(moved)):
        console.print()
        console.print(table)
    console.print(str(output / DRIFT_FILE), soft_wrap=True, highlight=False, markup=False)
