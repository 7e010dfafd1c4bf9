"""`sftbench drift`: how far a fine-tune moved what a model predicts, and its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sftbench.cli.compare import require_known
from sftbench.cli.engine_options import Dtype, Engine, EngineOptions
from sftbench.cli.rule_options import all_rules

if TYPE_CHECKING:
    from sftbench.analysis.drift import DriftResult
    from sftbench.analysis.movement import MovementResult


def drift(
    tuned: Annotated[str, typer.Option(help="Tuned model: a folder, a hub id, or an adapter.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the result; resumed if it is there.")
    ],
    base: Annotated[
        str | None,
        typer.Option(help="Base: a folder, a hub id, smollm2 or lab; default: what tuned names."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Another model tuned from that base: the angle between the updates."),
    ] = None,
    facts: Annotated[str, typer.Option(help="Fact table, or geography, or lab.")] = "geography",
    mastery: Annotated[
        str | None, typer.Option(help="Mastery card of the base; default: the one that ships.")
    ] = None,
    restore: Annotated[
        str | None, typer.Option(help="Restored variants too: 1,5,20 (% of the scalars), 20%norm.")
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(help="A restore in full, such as absolute,20%norm,mlp; repeatable."),
    ] = None,
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
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Prompts in one batch (default: hf: 16, vllm: 256).")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Read so many facts, balanced over level and domain.")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Only in or out.")] = None,
) -> None:
    """Say how far a fine-tune moved the predictions (KL, token by token) and the weights."""
    import shlex
    import sys

    from rich.console import Console
    from rich.markup import escape

    from sftbench.checkpoints.folder import open_checkpoint
    from sftbench.checkpoints.pair import find_pair
    from sftbench.checkpoints.reference import resolve
    from sftbench.compare.drift import run_drift
    from sftbench.compare.request import Request
    from sftbench.engines.settings import make_engine, parse_engine
    from sftbench.facts.prompts import PROMPTS
    from sftbench.facts.reference import resolve_facts
    from sftbench.facts.table import DOMAINS
    from sftbench.mastery.bundled import resolve_card

    if domain is not None:
        require_known("--domain", domain, DOMAINS)
    settings = parse_engine(engine, dtype=dtype, batch_size=batch_size, options=engine_options)
    restored = all_rules(rule, restore)
    fact_set = resolve_facts(facts)
    models = find_pair(tuned, base)
    digest = open_checkpoint(models.base).digest
    request = Request(
        base=models.base,
        tuned=models.tuned,
        out=output,
        facts=fact_set,
        card=resolve_card(mastery, base_digest=digest, facts=fact_set),
        prompt=PROMPTS[prompt],
        restored=restored,
        noise=noise,
        engine=settings,
        limit=limit,
        domain=domain,
        drift=True,
        notes=models.notes,
        base_name=models.base_name,
        tuned_name=models.tuned_name,
        command=shlex.join(["sftbench", *sys.argv[1:]]),
    )
    aside = Console(stderr=True)
    found, moved = run_drift(
        request,
        make_engine,
        lambda warning: aside.print(f"[yellow]Note:[/] {escape(warning)}"),
        None if against is None else resolve(against),
    )
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
