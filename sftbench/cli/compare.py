"""`sftbench compare`: what a fine-tune did to what its base knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from sftbench.cli.rule_options import (
    ArithmeticOption,
    CriterionOption,
    PerTensorOption,
    RegionOption,
    all_rules,
)

if TYPE_CHECKING:
    from rich.table import Table

    from sftbench.analysis.summary import Summary
    from sftbench.compare.chat import Chat
    from sftbench.compare.request import TaskRequest


def compare(
    tuned: Annotated[
        str, typer.Option(help="Tuned model: a folder, a hub id, or an adapter of either kind.")
    ],
    output: OutputFolder,
    base: BaseModel = None,
    base_revision: Annotated[str | None, typer.Option(help="Of a base on the hub.")] = None,
    tuned_revision: Annotated[str | None, typer.Option(help="Of a tuned model on the hub.")] = None,
    facts: FactsTable = "geography",
    mastery: Mastery = None,
    restore: Annotated[
        str | None,
        typer.Option(help="How much to restore: 1,5,20 (% of the scalars), 5%changed, 20%norm."),
    ] = None,
    criterion: CriterionOption = "relative",
    rule: Rules = None,
    per_tensor: PerTensorOption = False,
    region: RegionOption = "blocks",
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Choose one of the restores on a quarter of the facts, which is not scored "
            "(default: of relative, absolute and interpolation, at 20, 40 and 60 % of the norm).",
        ),
    ] = False,
    auto_task: Annotated[
        str | None,
        typer.Option(help="lm-eval task in which the chosen restore must not do worse."),
    ] = None,
    noise: Annotated[
        int,
        typer.Option(
            min=0,
            max=100,
            help="What is only noise: so many random changes of the fine-tune's size, and the "
            "base asked again in other batches. 3 is a good number.",
        ),
    ] = 0,
    loss: Annotated[
        bool,
        typer.Option("--loss", help="Tell kinds of loss apart: of form, of access, of knowledge."),
    ] = False,
    remeasure: Annotated[
        bool,
        typer.Option(
            "--remeasure",
            help="--loss, and the mastery of every fact measured again, before and after.",
        ),
    ] = False,
    drift: Annotated[
        bool,
        typer.Option("--drift", help="Measure how predictions and weights moved."),
    ] = False,
    arithmetic: ArithmeticOption = "fp32",
    prompt: Annotated[str, typer.Option(help="fewshot or paper.")] = "fewshot",
    apply_chat_template: Annotated[
        bool, typer.Option("--apply-chat-template", help="Ask every variant as a chat.")
    ] = False,
    chat_for_tuned: Annotated[
        bool,
        typer.Option(
            "--apply-chat-template-to-tuned", help="Ask all but the base as a chat: see the docs."
        ),
    ] = False,
    tasks: Annotated[
        str | None, typer.Option(help="lm-eval tasks to run on every variant as well: T1,T2.")
    ] = None,
    tasks_limit: Annotated[
        int | None, typer.Option(min=1, help="Documents of each of these tasks, at most.")
    ] = None,
    tasks_path: Annotated[
        Path | None, typer.Option(help="Folder with task files of your own (lm-eval YAML).")
    ] = None,
    engine: Engine = "auto",
    engine_options: EngineOptions = None,
    dtype: Dtype = "float32",
    batch_size: BatchSize = None,
    limit: Limit = None,
    domain: Domain = None,
) -> None:
    """Say what a fine-tune did to what its base knows, and what a restore brings back."""
    from dataclasses import replace

    from sftbench.compare.bench import Bench
    from sftbench.compare.repair import default_candidates, run_with_repair
    from sftbench.compare.run import run
    from sftbench.engines.settings import make_engine, parse_engine
    from sftbench.facts.prompts import PROMPTS
    from sftbench.facts.table import DOMAINS

    require_known("--prompt", prompt, tuple(PROMPTS))
    require_known("--domain", domain, DOMAINS)
    settings = parse_engine(engine, dtype=dtype, batch_size=batch_size, options=engine_options)
    restored = all_rules(rule, restore, criterion, arithmetic, per_tensor=per_tensor, region=region)
    chat = chat_of(all_variants=apply_chat_template, tuned_only=chat_for_tuned)
    require_auto(auto_task, tasks, auto=auto)
    request = request_of(
        tuned,
        base,
        facts,
        mastery,
        output,
        (base_revision, tuned_revision),
        prompt=PROMPTS[prompt],
        restored=restored,
        noise=noise,
        engine=settings,
        limit=limit,
        domain=domain,
        chat=chat,
        tasks=_task_request(tasks, tasks_limit, tasks_path),
        loss=loss or remeasure,
        remeasure=remeasure,
        drift=drift,
    )
    note = note_aside()
    if auto:
        task = _task_request(auto_task, tasks_limit if auto_task else None, tasks_path)
        candidates = request.restored or default_candidates()
        with Bench(make_engine, request.base, settings) as bench:
            compared = run_with_repair(
                replace(request, restored=()), candidates, bench, note, task=task
            )
    else:
        compared = run(request, make_engine, note)
    show_result(compared.summary, output)


def show_result(summary: Summary, output: Path) -> None:
    """Print the tables of a result and where its files are."""
    from rich.console import Console

    from sftbench.compare.result import GAINED, LOST, REPORT, SUMMARY
    from sftbench.report.terminal import show

    console = Console()
    show(summary, console)
    if summary.base.tasks:
        console.print(tasks_table(summary))
    for name in (REPORT, SUMMARY, LOST, GAINED):
        console.print(str(output / name), soft_wrap=True, highlight=False, markup=False)


def tasks_table(summary: Summary) -> Table:
    """Return the figures of lm-eval tasks, a line per metric and a column per variant."""
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    from sftbench.report.words import figure, label

    table = Table(
        title="Tasks of lm-eval, with standard errors", title_justify="left", title_style="bold",
        box=SIMPLE_HEAD, pad_edge=False,
    )  # fmt: skip
    table.add_column("task")
    table.add_column("n", justify="right")
    for variant in summary.variants:
        table.add_column(label(variant), justify="right")
    for rows in zip(*(variant.tasks for variant in summary.variants), strict=True):
        cells = (
            figure(one.value) + ("" if one.stderr is None else f" ± {figure(one.stderr)}")
            for one in rows
        )
        table.add_row(escape(f"{rows[0].task} {rows[0].metric}"), f"{rows[0].n:,}", *cells)
    return table


def chat_of(*, all_variants: bool, tuned_only: bool) -> Chat:
    """Return who is asked through a chat template.

    Raises:
        SftbenchError: both flags are given.
    """
    from sftbench.common.errors import SftbenchError

    if all_variants and tuned_only:
        raise SftbenchError(
            "--apply-chat-template and --apply-chat-template-to-tuned exclude each other",
            remedy="Name one of them.",
        )
    if all_variants:
        return "all"
    return "tuned" if tuned_only else "none"


def require_auto(auto_task: str | None, tasks: str | None, *, auto: bool) -> None:
    """Raise `SftbenchError` where a validation task does nothing, or would be scored as well."""
    from sftbench.common.errors import SftbenchError

    if auto_task is not None and not auto:
        raise SftbenchError(
            "--auto-task does nothing without --auto", remedy="Add --auto, or use --tasks."
        )
    both = set((auto_task or "").split(",")) & set((tasks or "").split(",")) - {""}
    if both:
        raise SftbenchError(
            f"{', '.join(sorted(both))} would choose the restore and score it too",
            remedy="Name another task in --auto-task or in --tasks.",
        )


def _task_request(names: str | None, limit: int | None, folder: Path | None) -> TaskRequest | None:
    from sftbench.common.errors import SftbenchError
    from sftbench.compare.request import TaskRequest

    if names is None:
        if limit is not None or folder is not None:
            raise SftbenchError(
                "--tasks-limit and --tasks-path do nothing without --tasks",
                remedy="Name tasks: --tasks T1,T2.",
            )
        return None
    listed = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not listed:
        raise SftbenchError(
            "names no task", where="--tasks", remedy="For example: --tasks arc_easy"
        )
    return TaskRequest(listed, limit, folder)
