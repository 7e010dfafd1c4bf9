"""`sftbench facts`: make fact files (embedded, EntityQuestions, your own), look at any of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sftbench.facts.own import Imported
    from sftbench.facts.table import FactSet

app = typer.Typer(
    help="Facts: make a fact file, look at one.", no_args_is_help=True, rich_markup_mode="rich"
)

Output = Annotated[Path, typer.Option("--output", "-o", help="The fact file to write (Parquet).")]


@app.command()
def geography(out: Output) -> None:
    """Write the embedded geography facts to a file, and say what is in it."""
    from sftbench.common.files import require_free_file
    from sftbench.facts.geography import load_geography

    require_free_file(out)
    facts = load_geography()
    facts.write(out)
    _print_summary(facts)
    typer.echo(f"Wrote {out}")


@app.command()
def entityquestions(
    source: Annotated[
        Path | None,
        typer.Option("--from", help="dataset.zip, or a folder with its files; else downloaded."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The fact file; else kept as `entityquestions`."),
    ] = None,
    as_paper: Annotated[
        bool,
        typer.Option(
            "--as-paper",
            help="The paper's sets to the row: nothing is flagged out of scoring, no shots.",
        ),
    ] = False,
) -> None:
    """Make the facts of EntityQuestions, filtered as in the paper, its leaks flagged."""
    from sftbench.common.files import require_free_file
    from sftbench.facts.entityquestions import (
        NAME,
        PAPER_NAME,
        build_entityquestions,
        download_entityquestions,
    )
    from sftbench.facts.entityquestions_files import ADDRESS
    from sftbench.facts.reference import cached_facts

    name = PAPER_NAME if as_paper else NAME
    target = cached_facts(name) if out is None else out
    if out is not None:
        require_free_file(out)
    if source is None:
        typer.echo(f"Downloading {ADDRESS}", err=True)
        facts = download_entityquestions(as_paper=as_paper)
    else:
        facts = build_entityquestions(source, as_paper=as_paper)
    facts.write(target)
    _print_summary(facts)
    _print_totals(facts)
    typer.echo(f"Wrote {target}" + ("" if out else f"; use it as --facts {name}"))


def _print_totals(facts: FactSet) -> None:
    """Say whether the paper's totals are reached."""
    from sftbench.facts.entityquestions import PAPER_TOTALS, totals_of

    counted = ", ".join(f"{group} {count:,}" for group, count in totals_of(facts).items())
    if totals_of(facts) == PAPER_TOTALS:
        typer.echo(f"{counted}: exactly the paper's totals.")
        return
    wanted = ", ".join(f"{group} {count:,}" for group, count in PAPER_TOTALS.items())
    typer.echo(f"Warning: {counted}: not the paper's totals ({wanted}).", err=True)


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            help="CSV, TSV, JSONL, JSON or Parquet file; folder or hub id of a Hugging Face data "
            "set."
        ),
    ],
    out: Output,
    question: Annotated[str | None, typer.Option(help="Column: the question.")] = None,
    answers: Annotated[
        str | None,
        typer.Option("--answers", "--answer", help="Column: the answer, or a list, best first."),
    ] = None,
    relation: Annotated[str | None, typer.Option(help="Column: kind of fact.")] = None,
    subject: Annotated[str | None, typer.Option(help="Column: what is asked about.")] = None,
    aliases: Annotated[str | None, typer.Option(help="Column: other right answers.")] = None,
    domain: Annotated[str | None, typer.Option(help="Column: in or out.")] = None,
    split: Annotated[str | None, typer.Option(help="Column: train or test.")] = None,
    separator: Annotated[
        str | None, typer.Option(help="Splits a cell of answers or aliases, such as '|'.")
    ] = None,
    relation_name: Annotated[
        str, typer.Option(help="The relation of all rows, where no column gives it.")
    ] = "facts",
    test_percent: Annotated[
        int, typer.Option(min=0, max=100, help="Share of test, where no column gives the split.")
    ] = 50,
    templates: Annotated[
        Path | None, typer.Option(help="YAML file: question and 21 cloze lines of each relation.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the fact set.")] = None,
    attribution: Annotated[str, typer.Option(help="Whom the facts are owed to.")] = "not stated",
    licence: Annotated[str, typer.Option(help="Under which they may be used.")] = "not stated",
    encoding: Annotated[str, typer.Option(help="Of a text file.")] = "utf-8",
    delimiter: Annotated[
        str | None, typer.Option(help="Of a CSV file, else a comma (a tab for .tsv).")
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of a data set.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit or tag of a data set.")] = None,
) -> None:
    """Make a fact file of a table of your own, and say what was taken and what was left out."""
    from sftbench.common.files import require_free_file
    from sftbench.facts.own import Columns, Settings, import_facts

    require_free_file(out)
    settings = Settings(
        columns=Columns(question, answers, relation, subject, aliases, domain, split),
        name=name,
        relation_name=relation_name,
        templates=templates,
        separator=separator,
        test_percent=test_percent,
        encoding=encoding,
        delimiter=delimiter,
        config=config,
        revision=revision,
        attribution=attribution,
        licence=licence,
    )
    imported = import_facts(source, settings)
    imported.facts.write(out)
    _print_summary(imported.facts)
    _print_import(imported)
    typer.echo(f"Wrote {out}")


def _print_import(imported: Imported) -> None:
    """Say what was assumed, and how many rows were left out and why."""
    for note in imported.notes:
        typer.echo(note)
    for skipped in imported.skipped:
        typer.echo(f"Left out or changed: {skipped}")
    typer.echo(f"{imported.facts.frame.height:,} facts of {imported.read:,} rows.")


@app.command()
def show(
    path: Annotated[
        str, typer.Argument(help="A fact file (Parquet), or geography, lab, entityquestions.")
    ],
    examples: Annotated[int, typer.Option(help="Examples to show of each relation.")] = 2,
) -> None:
    """Say what is in a fact file: counts, baselines, flags, source, and a few examples."""
    from sftbench.facts.reference import resolve_facts

    facts = resolve_facts(path)
    _print_summary(facts)
    _print_examples(facts, examples)


def _print_summary(facts: FactSet) -> None:
    """Print counts by relation, domain and split, baselines, flags, the source and the digests."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sftbench.facts.summary import flag_counts, relation_counts

    counts = Table("relation", "domain", title=Text(f"Facts: {facts.name}"))
    for heading in ("train", "scored in train", "test", "scored in test"):
        counts.add_column(heading, justify="right")
    for row in relation_counts(facts).iter_rows():
        counts.add_row(*(Text(str(cell)) for cell in row), end_section=row[0] == "all")
    flags = Table("flag", title="Flags")
    for heading in ("train", "test"):
        flags.add_column(heading, justify="right")
    for row in flag_counts(facts).iter_rows():
        flags.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    console.print(counts)
    _print_baselines(facts)
    console.print(flags)
    for name, value in facts.source.items():
        console.print(f"{name}: {value}", markup=False, highlight=False)
    console.print(f"facts digest: {facts.digest}", highlight=False)
    console.print(f"templates digest: {facts.templates_digest}", highlight=False)


def _print_baselines(facts: FactSet) -> None:
    """Print what a model scores on the test facts that knows nothing."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from sftbench.facts.summary import baseline_rows

    table = Table(
        "relation",
        "majority answer",
        title="Baselines: what takes no knowledge",
        caption="majority: this one answer to every scored test fact. echo: the answer stands in "
        "the question, of all test facts, and of those that are scored.",
    )
    for heading in ("majority", "echo", "echo, scored"):
        table.add_column(heading, justify="right")
    for relation, answer, *shares in baseline_rows(facts).iter_rows():
        table.add_row(Text(relation), Text(answer), *(f"{share:.1%}" for share in shares))
    if table.row_count:
        Console().print(table)


def _print_examples(facts: FactSet, number: int) -> None:
    """Print the first facts of each relation with their answers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("relation", "split", "question", "answers", title="Examples")
    for (relation,), rows in facts.frame.group_by("relation", maintain_order=True):
        for row in rows.head(number).iter_rows(named=True):
            cells = (str(relation), row["split"], row["question"], " | ".join(row["answers"]))
            table.add_row(*map(Text, cells))  # as it is: a "[b]" in a question is no mark-up
    if number > 0:
        Console().print(table)
