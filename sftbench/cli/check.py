"""`sftbench check`: one command that says what a fine-tune did, in the time there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sftbench.cli.compare_options import BatchSize, Rules, note_aside
from sftbench.cli.engine_options import Dtype, Engine, EngineOptions
from sftbench.cli.rule_options import all_rules

if TYPE_CHECKING:
    from sftbench.compare.check import Checked


def check(
    tuned: Annotated[str, typer.Argument(help="Tuned model: a folder, a hub id, or an adapter.")],
    base: Annotated[
        str | None, typer.Option(help="Its base; default: what the tuned model's files name.")
    ] = None,
    base_revision: Annotated[str | None, typer.Option(help="Of a base on the hub.")] = None,
    tuned_revision: Annotated[str | None, typer.Option(help="Of a tuned model on the hub.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder, resumed if it is there (default: check-NAME)."
        ),
    ] = None,
    budget: Annotated[str, typer.Option(help="Time it may take: 90s, 10m, 1h30m.")] = "10m",
    facts: Annotated[
        str | None, typer.Option(help="Fact table; default: the card's, else geography.")
    ] = None,
    mastery: Annotated[
        str | None,
        typer.Option(help="Mastery card, or canonical; default: the one that ships, else made."),
    ] = None,
    restore: Annotated[
        str,
        typer.Option(
            help="auto: choose a restore on facts that are not scored; or how much to restore: "
            "5,20 (% of the scalars), 20%norm; or none."
        ),
    ] = "auto",
    rule: Rules = None,
    noise: Annotated[
        int,
        typer.Option(
            min=0, max=100, help="Random changes of the fine-tune's size to hold it against."
        ),
    ] = 3,
    loss: Annotated[
        bool,
        typer.Option("--loss", help="Tell kinds of loss apart as well, beyond the budget."),
    ] = False,
    drift: Annotated[
        bool,
        typer.Option("--drift", help="Measure how predictions and weights moved, likewise."),
    ] = False,
    prompt: Annotated[Literal["fewshot", "paper"], typer.Option(help="How to ask.")] = "fewshot",
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", help="Ask every variant as a chat.")
    ] = False,
    chat_for_tuned: Annotated[
        bool,
        typer.Option(
            "--apply-chat-template-to-tuned", help="Ask all but the base as a chat: see the docs."
        ),
    ] = False,
    engine: Engine = "auto",
    engine_options: EngineOptions = None,
    dtype: Dtype = "float32",
    batch_size: BatchSize = None,
) -> None:
    """Say in a few sentences what a fine-tune did to what its base knows, in the time there is."""
    from sftbench.checkpoints.pair import find_pair
    from sftbench.cli.compare import chat_of
    from sftbench.compare.budget import parse_duration
    from sftbench.compare.check import run_check
    from sftbench.compare.check_request import CheckRequest
    from sftbench.compare.repair import default_candidates
    from sftbench.engines.settings import make_engine, parse_engine
    from sftbench.facts.prompts import PROMPTS

    seconds = parse_duration(budget)
    auto = restore == "auto"
    restored = all_rules(rule, None if auto or restore == "none" else restore)
    settings = parse_engine(engine, dtype=dtype, batch_size=batch_size, options=engine_options)
    chat = chat_of(all_variants=apply_chat_template, tuned_only=chat_for_tuned)
    models = find_pair(tuned, base, tuned_revision=tuned_revision, base_revision=base_revision)
    checked = run_check(
        CheckRequest(
            models=models,
            out=output or _default_output(tuned),
            budget=seconds,
            facts=facts,
            mastery=mastery,
            restored=() if auto else restored,
            candidates=(restored or default_candidates()) if auto else (),
            noise=noise,
            prompt=PROMPTS[prompt],
            chat=chat,
            engine=settings,
            loss=loss,
            drift=drift,
        ),
        make_engine,
        note_aside(),
    )
    show_checked(checked)


def _default_output(tuned: str) -> Path:
    import re

    name = Path(tuned).resolve().name if Path(tuned).exists() else tuned
    return Path("check-" + re.sub(r"[^\w.-]+", "-", name))


def show_checked(checked: Checked) -> None:
    """Print the verdict, the lost facts that tell most, and what to do next."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from sftbench.compare.result import REPORT
    from sftbench.compare.verdict import sentences, telling_facts

    console = Console()
    console.print()
    for sentence in sentences(checked.compared.summary):
        console.print(escape(sentence), style="bold", highlight=False)
    facts = telling_facts(checked.compared.lost)
    if facts:
        table = Table(
            title=f"Lost facts that tell most ({len(facts)} of {checked.compared.lost.height:,})",
            box=SIMPLE_HEAD,
            pad_edge=False,
            title_justify="left",
            title_style="bold",
        )
        columns = ("question", "answer", "base", "tuned", "level", "log p")
        for name in columns:
            table.add_column(name, justify="right" if name in ("level", "log p") else "left")
        for fact in facts:
            table.add_row(*(escape(value) for value in fact.values()))
        console.print()
        console.print(table)
    console.print()
    page = checked.folder / REPORT
    console.print(f"The page: {page}", soft_wrap=True, highlight=False, markup=False)
    for purpose, command in checked.next_steps:
        console.print(f"For {purpose}: {command}", soft_wrap=True, highlight=False, markup=False)
