"""`sftbench leaderboard`: records of a results folder made, checked, exported and commented on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sftbench_leaderboard.board import Board
    from sftbench_leaderboard.known import Known
    from sftbench_leaderboard.named import Names
    from sftbench_leaderboard.problems import Verdict
    from sftbench_leaderboard.submit import Draft

MOST_SAID = 20
"""Files left out that a build names."""
REJECTED = 1
"""Exit code of a validation that rejects a record."""

app = typer.Typer(
    help="A leaderboard of what fine-tunes kept: records in a folder, checked from their items.",
    no_args_is_help=True,
)

Results = Annotated[Path, typer.Argument(help="Folder of results, or a file made by pack.")]
Folder = Annotated[Path, typer.Argument(help="Folder of results.")]
Facts = Annotated[
    list[str] | None,
    typer.Option("--facts", help="A fact table that does not ship (repeatable)."),
]
Cards = Annotated[
    list[str] | None,
    typer.Option("--card", help="A mastery card that does not ship (repeatable)."),
]


@app.command()
def submit(
    result: Annotated[
        Path,
        typer.Argument(
            help="Folder of compare or check; or the tuned model's lm_eval --log_samples outputs."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of results.")],
    name: Annotated[
        str | None, typer.Option(help="The model, ORG/MODEL; needed where it is a local folder.")
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Variant to submit (repeatable): tuned (default), a restore, or all."),
    ] = None,
    facts: Facts = None,
    card: Cards = None,
    base_name: Annotated[str | None, typer.Option(help="What to call the base.")] = None,
    method: Annotated[
        str | None, typer.Option(help="How it was tuned: full, lora ... (default: as recorded).")
    ] = None,
    parameters: Annotated[
        int | None, typer.Option(min=1, help="Scalars of the model (default: counted).")
    ] = None,
    base_outputs: Annotated[
        Path | None, typer.Option(help="lm-eval: the base's outputs of the same tasks.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="lm-eval: the base itself.")] = None,
    tuned: Annotated[str | None, typer.Option(help="lm-eval: the tuned model itself.")] = None,
) -> None:
    """Turn a comparison, or lm-eval outputs with samples, into records with their items."""
    import shlex
    import sys

    from sftbench_leaderboard.named import Names
    from sftbench_leaderboard.submit import submit as write

    known = _known(facts, card)
    names = Names(name, base_name, method, parameters)
    if base_outputs is None:
        drafts = _of_comparison(result, names, variant or [])
    else:
        models = (base_outputs, base, tuned)
        command = shlex.join(["sftbench", *sys.argv[1:]])
        drafts = _of_lm_eval(result, models, (facts, card), names, command)
    for one in write(drafts, output, known):
        typer.echo(f"{one.path}{' (there already)' if one.there else ''}")


def _of_comparison(result: Path, names: Names, variants: list[str]) -> list[Draft]:
    from sftbench_leaderboard.from_compare import drafts_of

    from sftbench.common.errors import SftbenchError
    from sftbench.compare.finished import read_result
    from sftbench.gate.from_compare import comparison_at

    found = comparison_at(str(result))
    if found is None:
        raise SftbenchError(
            "holds no finished comparison",
            where=result,
            remedy="Name the folder that `sftbench compare -o` or `sftbench check -o` wrote; for "
            "lm-eval outputs give --base-outputs, --base and --tuned as well.",
        )
    return drafts_of(read_result(Path(found)), names, variants)


def _of_lm_eval(
    result: Path,
    models: tuple[Path, str | None, str | None],
    named: tuple[list[str] | None, list[str] | None],
    names: Names,
    command: str,
) -> list[Draft]:
    from sftbench_leaderboard.from_lm_eval import Asked, draft_of

    from sftbench.common.errors import SftbenchError
    from sftbench.facts.reference import resolve_facts

    outputs, base, tuned = models
    facts, card = named
    if base is None or tuned is None or len(facts or ()) > 1 or len(card or ()) > 1:
        raise SftbenchError(
            "lm-eval outputs need both models, and one fact table and one card at most",
            remedy="sftbench leaderboard submit TUNED_OUTPUTS --base-outputs BASE_OUTPUTS --base "
            "BASE --tuned TUNED --name ORG/MODEL -o results",
        )
    table = resolve_facts(facts[0] if facts else "geography")
    asked = Asked(outputs, result, base, tuned)
    return [draft_of(asked, table, card[0] if card else None, names, command)]


@app.command()
def validate(
    results: Results,
    facts: Facts = None,
    card: Cards = None,
) -> None:
    """Check every record from its items. Exit code: 0 all accepted, 1 some rejected, 2 misuse."""
    from sftbench_leaderboard.folder import verdicts
    from sftbench_leaderboard.pack import as_folder

    accepted = rejected = 0
    with as_folder(results) as folder:
        for one in verdicts(folder, _known(facts, card)):
            accepted, rejected = accepted + one.ok, rejected + (not one.ok)
            if not one.ok:
                _say_rejected(one, folder)
    typer.echo(f"{accepted:,} accepted, {rejected:,} rejected")
    raise typer.Exit(REJECTED if rejected else 0)


def _say_rejected(verdict: Verdict, results: Path) -> None:
    typer.echo(ascii(str(verdict.path.relative_to(results)))[1:-1])
    for problem in verdict.problems:
        typer.echo(f"  {problem}")


@app.command()
def export(
    results: Results,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the files.")],
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="eval-results, model-index or every-eval-ever (repeatable; default all)."
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Data set of the hub (default sftbench/<facts>).")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Where the leaderboard is shown.")] = None,
    organization: Annotated[str, typer.Option(help="Who provides the data.")] = "sftbench",
    facts: Facts = None,
    card: Cards = None,
) -> None:
    """Write accepted records as .eval_results YAML, model-index, and Every Eval Ever JSON."""
    from sftbench_leaderboard.export import FORMATS, Told
    from sftbench_leaderboard.export import export as write
    from sftbench_leaderboard.folder import verdicts
    from sftbench_leaderboard.pack import as_folder

    with as_folder(results) as folder:
        found = list(verdicts(folder, _known(facts, card)))
    records = [one.record for one in found if one.record is not None]
    paths = write(records, output, to or list(FORMATS), Told(dataset, url, organization))
    for path in paths:
        typer.echo(path)
    left = len(found) - len(records)
    if left:
        typer.echo(f"{left:,} rejected and left out; see `sftbench leaderboard validate`", err=True)


@app.command()
def build(
    results: Results,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the site.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file that is rejected.")
    ] = False,
    title: Annotated[str | None, typer.Option(help="Name of the leaderboard on its pages.")] = None,
    records: Annotated[
        bool, typer.Option(help="Records and items can be downloaded from the site.")
    ] = True,
    facts: Facts = None,
    card: Cards = None,
) -> None:
    """Build the site: static pages that work from a file or any server."""
    from sftbench_leaderboard.site.build import NAME, Options
    from sftbench_leaderboard.site.build import build as write

    known = _known(facts, card)
    with _board(results, known, strict=strict) as (board, rejected):
        built = write(board, rejected, output, known, Options(title or NAME, records, results))
    typer.echo(
        f"{output / 'index.html'}: {len(board.records):,} records of {built.models:,} models, "
        f"{built.size / 1e6:,.1f} MB"
    )
    _say_left_out(rejected, results)


@app.command()
def table(
    results: Results,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables.")],
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file that is rejected.")
    ] = False,
    facts: Facts = None,
    card: Cards = None,
) -> None:
    """Write ranks and figures as tables: models, domains, levels, tasks (CSV, JSON, Parquet)."""
    from sftbench_leaderboard.tables import write_tables

    with _board(results, _known(facts, card), strict=strict) as (board, rejected):
        for one in write_tables(board, output):
            typer.echo(f"{output / one.name}.csv, .json, .parquet: {one.rows:,} rows, {one.row}")
    _say_left_out(rejected, results)


@app.command()
def pack(
    results: Folder,
    output: Annotated[Path, typer.Option("--output", "-o", help="Parquet file.")],
    facts: Facts = None,
    card: Cards = None,
) -> None:
    """Put the accepted records of a folder into one Parquet file, which stands for the folder."""
    from sftbench_leaderboard.pack import pack as write

    found = _verdicts(results, _known(facts, card), strict=False)
    count = write((one.path for one in found if one.ok), output)
    typer.echo(f"{output}: {count:,} records")
    _say_left_out([one for one in found if not one.ok], results)


@contextmanager
def _board(results: Path, known: Known, *, strict: bool) -> Iterator[tuple[Board, list[Verdict]]]:
    """Yield the board of a results folder or file, and what was rejected."""
    from sftbench_leaderboard.board import Board
    from sftbench_leaderboard.pack import as_folder

    with as_folder(results) as folder:
        found = _verdicts(folder, known, strict=strict)
        accepted = [(one.path, one.record) for one in found if one.record is not None]
        yield Board.of(accepted), [one for one in found if not one.ok]


def _verdicts(results: Path, known: Known, *, strict: bool) -> list[Verdict]:
    """Return what is to be said of each file; what was accepted before is not checked again.

    Args:
        results: the folder.
        known: what records are held against.
        strict: stop at the first that is rejected.

    Raises:
        SftbenchError: with `strict`, a file is rejected.
    """
    from sftbench_leaderboard.folder import records_of, verdicts
    from sftbench_leaderboard.receipts import Receipts, receipts_file

    from sftbench.common.errors import SftbenchError
    from sftbench.common.progress import progress

    given = Receipts(receipts_file(), known)
    found = []
    with (
        progress("validating", len(records_of(results)), unit="records") as advance,
        closing(given),
    ):
        for one in verdicts(results, known, receipts=given):
            found.append(one)
            advance(one.path.suffix == ".json")
            if strict and not one.ok:
                raise SftbenchError(
                    "; ".join(map(str, one.problems)),
                    where=ascii(str(one.path))[1:-1],
                    remedy="Mend or remove it, or build without --strict, which leaves it out.",
                )
    return found


def _shown(verdict: Verdict) -> str:
    """Return where a file lies, in ASCII: whoever named it may mean harm to a terminal."""
    return ascii("/".join(verdict.path.parts[-3:]))[1:-1]


def _say_left_out(rejected: list[Verdict], results: Path) -> None:
    for one in rejected[:MOST_SAID]:
        typer.echo(f"left out: {_shown(one)}: {one.problems[0]}", err=True)
    if len(rejected) > MOST_SAID:
        typer.echo(f"left out: {len(rejected) - MOST_SAID:,} more", err=True)
    if rejected:
        typer.echo(f"See `sftbench leaderboard validate {results}`.", err=True)


@app.command()
def comment(
    results: Folder,
    new: Annotated[list[Path], typer.Argument(help="The new records (.json).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Markdown file (default: printed).")
    ] = None,
    facts: Facts = None,
    card: Cards = None,
) -> None:
    """Say for a pull request how new records stand beside their neighbours, or what is wrong."""
    from sftbench_leaderboard.comment import comment as text_of
    from sftbench_leaderboard.folder import verdicts

    from sftbench.common.files import atomic_file

    text = text_of(list(verdicts(results, _known(facts, card), new=new)), new)
    if output is None:
        typer.echo(text, nl=False)
        return
    with atomic_file(output) as temporary:
        temporary.write_text(text, encoding="utf-8")


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file (default: printed).")
    ] = None,
) -> None:
    """Print the JSON Schema of a record."""
    import json

    from sftbench_leaderboard.record import json_schema

    from sftbench.common.files import write_json

    if output is None:
        typer.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    else:
        write_json(output, json_schema())


def _known(facts: list[str] | None, cards: list[str] | None) -> Known:
    from sftbench_leaderboard.known import Known

    return Known.of(facts or (), cards or ())
