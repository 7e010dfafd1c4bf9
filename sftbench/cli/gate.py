"""`sftbench gate`: does a candidate lose knowledge that the baseline keeps? Exit code 0, 1 or 3."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from sftbench.analysis.gate import Terms
    from sftbench.gate.plan import Sight

LEVELS = 4
"""Levels that retention averages."""

app = typer.Typer(
    help="Hold a fine-tune recipe to a baseline: is it no worse by more than a margin?",
    invoke_without_command=True,
)

Results = Annotated[
    list[str] | None,
    typer.Option(
        help="Results of the candidate, one for each run (repeatable): a folder of compare or "
        "check, FOLDER:VARIANT, or of lm_eval --log_samples."
    ),
]
Base = Annotated[
    str | None, typer.Option(help="The base's own lm-eval outputs, where no comparison tells them.")
]
Margin = Annotated[
    str | None, typer.Option(help="Loss that does not matter: 2pp or 0.02 (default 2pp).")
]
Alpha = Annotated[
    float | None, typer.Option(help="One-sided error of a pass at the margin (default 0.05).")
]
Primary = Annotated[
    list[str] | None,
    typer.Option(help="Endpoint that decides (repeatable; default retention:in)."),
]
Seeds = Annotated[
    int | None, typer.Option(min=1, help="Runs that a candidate must come with (default 1).")
]


@app.callback()
def gate(
    context: typer.Context,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="A file of `gate init`, or results as for --candidate (repeatable)."),
    ] = None,
    candidate: Results = None,
    base: Base = None,
    margin: Margin = None,
    alpha: Alpha = None,
    primary: Primary = None,
    seeds: Seeds = None,
    on_inconclusive: Annotated[
        Literal["report", "pass", "fail"],
        typer.Option(help="Exit code of an inconclusive verdict: 3, 0 or 1."),
    ] = "report",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="JSON file.")] = None,
    junit: Annotated[Path | None, typer.Option(help="JUnit XML file.")] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="Markdown file, for a pull request.")
    ] = None,
) -> None:
    """Hold a candidate to a baseline. Exit code: 0 passes, 1 inferior, 3 inconclusive, 2 misuse."""
    if context.invoked_subcommand is not None:
        _require_none(context)
        return
    from rich.console import Console

    from sftbench.common.errors import SftbenchError
    from sftbench.gate.baseline import Baseline
    from sftbench.gate.judge import judge
    from sftbench.gate.read import read_baseline_or_side, read_side
    from sftbench.gate.terms import chosen_terms
    from sftbench.report.gate_terminal import print_gate

    if not baseline or not candidate:
        raise SftbenchError(
            f"the gate needs --{'candidate' if baseline else 'baseline'}",
            remedy="sftbench gate --baseline FILE --candidate RESULT; a baseline is made by "
            "`sftbench gate init RESULT ... -o FILE`.",
        )
    _require_writable((output, junit, markdown), (*baseline, *candidate, *filter(None, [base])))
    read = read_baseline_or_side(baseline, base)
    side = read.side if isinstance(read, Baseline) else read
    declared = read.terms if isinstance(read, Baseline) else None
    terms, notes = chosen_terms(declared, margin=margin, alpha=alpha, primary=primary, seeds=seeds)
    result = judge(side, read_side(candidate, base), terms, on_inconclusive)
    result = result.model_copy(update={"notes": (*notes, *result.notes)})
    print_gate(Console(), result)
    _write(result, output, junit, markdown)
    raise typer.Exit(result.exit_code)


def _require_none(context: typer.Context) -> None:
    """Raise where an option stands before the name of a subcommand, which would pass it over."""
    from sftbench.common.errors import SftbenchError

    given = [
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    ]
    if given:
        verb = context.invoked_subcommand
        raise SftbenchError(
            f"--{given[0].replace('_', '-')} stands before {verb} and would be passed over",
            remedy=f"sftbench gate {verb} ... --{given[0].replace('_', '-')} ...",
        )


def _require_writable(paths: Sequence[Path | None], inputs: Sequence[str]) -> None:
    """Raise, before anything is judged, unless each output can be written and is no other file."""
    import os

    from sftbench.common.errors import SftbenchError

    named = [path.absolute() for path in paths if path is not None]
    taken = {Path(one).absolute() for one in inputs}
    for place, path in enumerate(named):
        if path in taken or path in named[:place]:
            raise SftbenchError(
                "is an input, or another output, of this gate",
                where=path,
                remedy="Name a file of its own for each of -o, --junit and --markdown.",
            )
        if path.is_dir():
            raise SftbenchError("is a folder, and a file is to be written", where=path)
        above = next(one for one in path.parents if one.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise SftbenchError(
                f"cannot be written: {above} is no folder that may be written to",
                where=path,
                remedy="Name another file.",
            )


def _write(result: object, output: Path | None, junit: Path | None, markdown: Path | None) -> None:
    """Write the result in the forms asked for; files of an earlier run are replaced."""
    from sftbench.analysis.gate import GateResult
    from sftbench.common.files import atomic_file, write_json
    from sftbench.report import gate_junit, gate_markdown

    assert isinstance(result, GateResult)
    if output is not None:
        write_json(output, result.model_dump(mode="json"))
    for path, text in ((junit, gate_junit.junit), (markdown, gate_markdown.markdown)):
        if path is not None:
            with atomic_file(path) as temporary:
                temporary.write_text(text(result), encoding="utf-8")


@app.command()
def init(
    results: Annotated[
        list[str], typer.Argument(help="Results of the accepted runs, one for each seed.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Baseline file (.parquet).")],
    base: Base = None,
    margin: Margin = None,
    alpha: Alpha = None,
    primary: Primary = None,
    seeds: Seeds = None,
) -> None:
    """Make a baseline of accepted runs, and say what true loss a gate on it can see."""
    from rich.console import Console

    from sftbench.common.files import require_free_file
    from sftbench.gate.baseline import write_baseline
    from sftbench.gate.plan import sights_of
    from sftbench.gate.read import read_side
    from sftbench.gate.terms import chosen_terms
    from sftbench.report.words import count

    require_free_file(output)
    terms, _ = chosen_terms(None, margin=margin, alpha=alpha, primary=primary, seeds=seeds)
    side = read_side(results, base)
    sights = sights_of(side, terms)
    write_baseline(output, side, terms)
    console = Console()
    console.print(
        f"{output}: {count(len(side.runs), 'run')}, {side.facts.height:,} facts "
        f"({output.stat().st_size / 1024:.0f} KiB)",
        highlight=False,
        markup=False,
    )
    for one in sights:
        _print_sight(console, one, terms)
    if len(side.runs) == 1:
        console.print(
            "One run: nothing shows how much runs of this recipe vary. Three seeds are better.",
            style="yellow",
            highlight=False,
        )


@app.command()
def power(
    baseline: Annotated[
        Path | None, typer.Option(help="A file of `gate init`; else --facts and --discordance.")
    ] = None,
    facts: Annotated[
        int | None, typer.Option(min=2, help="Facts that the endpoint rests on.")
    ] = None,
    levels: Annotated[int, typer.Option(min=1, max=5, help="Levels that are averaged.")] = LEVELS,
    discordance: Annotated[
        float | None,
        typer.Option(help="Share of facts that two runs answer differently (default 0.15)."),
    ] = None,
    between: Annotated[
        float, typer.Option(min=0, help="Standard deviation between runs, a fraction.")
    ] = 0.0,
    deff: Annotated[
        float | None, typer.Option(min=1, help="Design effect of facts that share an answer.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each side.")] = 1,
    margin: Margin = None,
    alpha: Alpha = None,
    primary: Primary = None,
    seeds: Seeds = None,
) -> None:
    """Plan a gate: the chance of each verdict, and the facts that a margin takes."""
    from rich.console import Console

    from sftbench.analysis.power import Planned
    from sftbench.common.errors import SftbenchError
    from sftbench.gate.baseline import read_baseline
    from sftbench.gate.plan import ASSUMED, sight, sights_of
    from sftbench.gate.terms import chosen_terms

    if discordance is not None and not 0 < discordance <= 1:
        raise SftbenchError(
            f"a discordance of {discordance:g} is none",
            where="--discordance",
            remedy="Name the share of facts that two runs of one recipe answer differently, above "
            "0 and at most 1. Two runs that never differ are one run.",
        )
    if (baseline is None) == (facts is None):
        raise SftbenchError(
            "power needs either --baseline or --facts",
            remedy="sftbench gate power --facts 1000 --discordance 0.15 --margin 2pp",
        )
    if baseline is not None:
        _require_defaults(levels != LEVELS, between > 0, runs > 1, deff is not None)
        read = read_baseline(baseline)
        terms, _ = chosen_terms(
            read.terms, margin=margin, alpha=alpha, primary=primary, seeds=seeds
        )
        sights = sights_of(read.side, terms, discordance)
    else:
        assert facts is not None
        terms, _ = chosen_terms(None, margin=margin, alpha=alpha, primary=primary, seeds=seeds)
        planned = Planned(
            sizes=(facts / levels,) * levels,
            discordance=(discordance or ASSUMED,) * levels,
            deff=deff or 1.0,
            between=between,
            baseline_runs=runs,
            candidate_runs=runs,
        )
        said = "as you say" if discordance else "assumed"
        sights = [sight(", ".join(terms.primary), planned, said, terms)]
    for one in sights:
        _print_sight(Console(), one, terms)


def _require_defaults(*given: bool) -> None:
    """Raise where an option is given that a baseline file decides."""
    from sftbench.common.errors import SftbenchError

    if any(given):
        raise SftbenchError(
            "--levels, --between, --runs and --deff are those of the baseline's own runs",
            remedy="Leave them out, or name --facts in place of --baseline.",
        )


def _print_sight(console: Console, one: Sight, terms: Terms) -> None:
    from sftbench.report.gate_power import losses_table, planned_sentence, seen_sentences

    console.print(losses_table(one.name, one.losses, terms.margin))
    console.print(
        planned_sentence(one.planned, one.assumed), highlight=False, markup=False, style="dim"
    )
    for line in seen_sentences(one.planned, one.seen, one.needed, terms.margin):
        console.print(line, highlight=False, markup=False)
