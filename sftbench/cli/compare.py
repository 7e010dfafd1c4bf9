"""`sftbench compare`: what a fine-tune did to what its base knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    base: Annotated[str, typer.Option(help="Base model: a folder, smollm2 or lab.")],
    tuned: Annotated[str, typer.Option(help="Tuned model: a folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of the result; resumed if it is there.")
    ],
    facts: Annotated[str, typer.Option(help="Fact table, or geography, or lab.")] = "geography",
    mastery: Annotated[
        str | None, typer.Option(help="Mastery card of the base; default: the one that ships.")
    ] = None,
    restore: Annotated[
        str | None, typer.Option(help="Percentages of the most changed scalars to restore: 1,5,20.")
    ] = None,
    arithmetic: Annotated[str, typer.Option(help="Ranking in fp32 or bf16.")] = "fp32",
    prompt: Annotated[str, typer.Option(help="fewshot or paper.")] = "fewshot",
    engine: Annotated[str, typer.Option(help="hf (transformers).")] = "hf",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts in one batch.")] = 16,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Ask so many facts, balanced over level and domain.")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Only in or out.")] = None,
) -> None:
    """Say what a fine-tune did to what its base knows, and what a restore brings back."""
    import shlex
    import sys

    from rich.console import Console
    from rich.markup import escape

    from sftbench.checkpoints.folder import open_checkpoint
    from sftbench.checkpoints.reference import resolve
    from sftbench.checkpoints.variants import parse_arithmetic, parse_percents
    from sftbench.compare.request import Request
    from sftbench.compare.run import LOST, REPORT, SUMMARY, run
    from sftbench.engines.settings import EngineSettings, make_engine
    from sftbench.facts.prompts import PROMPTS
    from sftbench.facts.reference import resolve_facts
    from sftbench.facts.table import DOMAINS
    from sftbench.mastery.bundled import resolve_card
    from sftbench.report.terminal import show

    _require_known("--prompt", prompt, tuple(PROMPTS))
    _require_known("--engine", engine, ("hf",))
    if domain is not None:
        _require_known("--domain", domain, DOMAINS)
    percents = parse_percents(restore) if restore else ()
    base_folder, tuned_folder = resolve(base), resolve(tuned)
    fact_set = resolve_facts(facts)
    card = resolve_card(mastery, base_digest=open_checkpoint(base_folder).digest, facts=fact_set)
    request = Request(
        base=base_folder,
        tuned=tuned_folder,
        out=output,
        facts=fact_set,
        card=card,
        prompt=PROMPTS[prompt],
        percents=tuple(sorted(percents)),
        arithmetic=parse_arithmetic(arithmetic),
        engine=EngineSettings(engine, dtype, batch_size),
        limit=limit,
        domain=domain,
        base_name=base,
        tuned_name=tuned,
        command=shlex.join(["sftbench", *sys.argv[1:]]),
    )
    aside = Console(stderr=True)
    summary = run(
        request, make_engine, lambda warning: aside.print(f"[yellow]Note:[/] {escape(warning)}")
    ).summary
    console = Console()
    show(summary, console)
    for name in (REPORT, SUMMARY, LOST):
        console.print(str(output / name), soft_wrap=True, highlight=False, markup=False)


def _require_known(flag: str, value: str, known: tuple[str, ...]) -> None:
    from sftbench.common.errors import SftbenchError

    if value not in known:
        raise SftbenchError(f"{flag} {value} is not known", remedy=f"Use {' or '.join(known)}.")
