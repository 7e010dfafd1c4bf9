"""Runs the benchmarks, and keeps and compares runs: `python -m benchmarks run|save|compare|table`.

`make bench`, `make bench-save`, `make bench-compare` and `make bench-table` are these. Options that
`run` and `compare` do not know they pass on to pytest, such as `-m 'not slow'`.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare_runs import (
    SHARE,
    Change,
    change_table,
    compare,
    failures,
    require_alike,
    version_notes,
    with_second_look,
)
from benchmarks.performance_table import PAGE, markdown, page_with, run_table, saved_runs
from benchmarks.references import WORKLOADS
from benchmarks.saved_runs import (
    LATEST,
    ROOT,
    Run,
    read_measured,
    require_saved,
    save,
    this_machine,
    together,
)
from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_file

REGRESSION, MISUSE = 1, 2
HERE = ROOT / "benchmarks"
AGAIN = LATEST.with_name("again.json")
"""Where the second look of a comparison is left."""
RUNS = 3
"""What is saved is the median of so many runs: one may be off."""


def main() -> int:
    """Do what is asked for; return the exit status."""
    args, more = _parser().parse_known_args()
    try:
        return int(args.do(args, more))
    except SftbenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return MISUSE


def measured(more: Sequence[str], out: Path = LATEST, only: Sequence[str] = ()) -> Run:
    """Run the benchmarks, or those of some names only, by pytest; return what came of it.

    Raises:
        SftbenchError: pytest failed; it has said why.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-c", str(HERE / "pytest.ini"), str(HERE), *more]
    options = [f"--benchmark-json={out}", *(f"--only={name}" for name in only)]
    done = subprocess.run([*command, *options], cwd=ROOT, check=False)
    if done.returncode:
        raise SftbenchError(
            f"the benchmarks were not all measured (pytest ended with {done.returncode})",
            remedy="What failed stands above.",
        )
    return read_measured(out)


def _run(args: argparse.Namespace, more: Sequence[str]) -> int:
    """Measure once and show it."""
    from rich.console import Console

    Console().print(run_table(measured(more)))
    return 0


def _save(args: argparse.Namespace, more: Sequence[str]) -> int:
    """Measure a few times; later runs of this machine are held against the medians."""
    _require_none(more)  # of a part there would be nothing to hold the rest against
    path = save(together([measured(()) for _ in range(args.runs)]))
    print(f"Saved as {path.relative_to(ROOT)}; `make bench-table` puts it into the documentation.")
    return 0


def _compare(args: argparse.Namespace, more: Sequence[str]) -> int:
    """Measure and hold it against the saved run of this machine; what is slower a second time."""
    saved = require_saved(this_machine())
    require_alike(saved, this_machine(), WORKLOADS)  # before minutes are spent
    now = measured(more)
    changes = compare(saved, now, args.share, whole=not more)
    slower = [change.name for change in changes if change.verdict == "slower"]
    if slower:
        print(f"Slower, so measured once more: {', '.join(slower)}", flush=True)
        again = measured(more, AGAIN, slower)
        changes = compare(saved, with_second_look(now, again), args.share, whole=not more)
    show(changes, version_notes(saved, now))
    wrong = failures(changes)
    print(verdict(wrong, args.share))
    return REGRESSION if wrong else 0


def show(changes: Sequence[Change], notes: Sequence[str]) -> None:
    """Print a comparison, and which software is another."""
    from rich.console import Console

    console = Console()
    console.print(change_table(changes))
    for note in notes:
        console.print(note)


def verdict(wrong: Sequence[Change], share: float) -> str:
    """Return what a comparison comes to, and what to do where something is wrong."""
    if not wrong:
        return f"No ratio grew by more than {share:.0%}."
    slower = [one.name for one in wrong if one.verdict == "slower"]
    missing = [one.name for one in wrong if one.verdict == "missing"]
    said = []
    if slower:
        said.append(f"Slower by more than {share:.0%}, twice: {', '.join(slower)}.")
    if missing:
        said.append(f"In the saved run, but not measured now: {', '.join(missing)}.")
    return "\n".join([*said, "If that is meant, save a new run: make bench-save"])


def _table(args: argparse.Namespace, more: Sequence[str]) -> int:
    """Write the table of docs/performance.md from the saved runs."""
    _require_none(more)
    page = page_with(PAGE.read_text(encoding="utf-8"), markdown(saved_runs()))
    with atomic_file(PAGE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return 0


def _require_none(more: Sequence[str]) -> None:
    if more:
        raise SftbenchError(f"there is no option {more[0]} here")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, do in {"run": _run, "save": _save, "compare": _compare, "table": _table}.items():
        one = commands.add_parser(name, help=do.__doc__, description=do.__doc__)
        one.set_defaults(do=do)
        if name == "save":
            one.add_argument("--runs", type=_count, default=RUNS, help="how many")
        if name == "compare":
            one.add_argument(
                "--share", type=_share, default=SHARE, help="by which part a ratio may grow"
            )
    return parser


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no part by which a ratio can grow; 0.3 is one")
    return value


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of runs; 3 is one")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
