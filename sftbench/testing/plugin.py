"""The pytest plugin: fixtures that fine-tune, score and gate, each thing done once.

It is loaded wherever sftbench is installed, so it imports nothing but pytest until a test asks.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from sftbench.analysis.gate import GateResult
    from sftbench.gate.baseline import Baseline
    from sftbench.testing.work import Work

BASELINE, CACHE, WRITE = "sftbench_baseline", "sftbench_cache", "sftbench_write_baseline"
MARKER = "sftbench"
SAID = "sftbench"
"""The name under which a test's verdict stands in its report, and in --junitxml."""
TERMS = ("margin", "alpha", "primary", "seeds")
OnInconclusive = Literal["fail", "pass", "skip"]
POLICIES = ("fail", "pass", "skip")


class Gate(Protocol):
    """What the fixture `sftbench_gate` is."""

    def __call__(
        self,
        *candidates: str | Path,
        baseline: str | Path | None = None,
        on_inconclusive: OnInconclusive | None = None,
        **how: Any,
    ) -> GateResult:
        """Hold candidates to the baseline; see the fixture."""
        ...


class RetentionWarning(UserWarning):
    """A gate was inconclusive and the test passes all the same, as it was asked to."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options and the lines of an ini file."""
    group = parser.getgroup("sftbench", "recipes that must not lose knowledge")
    group.addoption(
        "--sftbench-baseline",
        metavar="FILE",
        help="baseline of the gate (`sftbench gate init`), where a test names none",
    )
    group.addoption(
        "--sftbench-cache",
        metavar="DIR",
        help="where checkpoints and results are kept between runs (default: in pytest's cache)",
    )
    group.addoption(
        "--sftbench-write-baseline",
        action="store_true",
        help="write each gate's candidates as its new baseline, in place of judging them",
    )
    group.addoption(
        "--sftbench-results",
        metavar="DIR",
        help="results folder that `--pyargs sftbench_leaderboard.checks` validates",
    )
    for name, what in (("--sftbench-facts", "fact table"), ("--sftbench-card", "mastery card")):
        group.addoption(
            name,
            metavar="FILE",
            action="append",
            help=f"{what} of these results that does not ship (repeatable)",
        )
    parser.addini(BASELINE, "baseline of the gate, relative to the ini file", default="")
    parser.addini(CACHE, "where checkpoints and results are kept", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(baseline, margin, alpha, primary, seeds, on_inconclusive): the terms of the "
        "gate of a recipe test; a margin is text such as '2pp'",
    )


@pytest.fixture(scope="session")
def _sftbench_work(pytestconfig: pytest.Config) -> Work:
    from sftbench.common.files import cache_folder
    from sftbench.testing.work import Work

    named = pytestconfig.getoption("--sftbench-cache")
    if named:
        return Work(Path(named).absolute())
    if ini := pytestconfig.getini(CACHE):
        return Work(pytestconfig.rootpath / ini)
    if pytestconfig.pluginmanager.has_plugin("cacheprovider"):
        return Work(Path(pytestconfig.cache.mkdir("sftbench")))
    return Work(cache_folder() / "pytest")


@pytest.fixture(scope="session")
def sftbench_finetune(_sftbench_work: Work) -> Callable[..., Path]:
    """Return ``finetune(recipe, *, base, facts, mastery, seed) -> folder``: trained once."""
    return _plainly(_sftbench_work.finetune)


@pytest.fixture(scope="session")
def sftbench_train(_sftbench_work: Work) -> Callable[..., Path]:
    """Return ``train(make, *, key) -> folder``: your own training, called once for each key."""
    return _plainly(_sftbench_work.train)


@pytest.fixture(scope="session")
def sftbench_score(_sftbench_work: Work) -> Callable[..., Path]:
    """Return ``score(tuned, *, base, facts, mastery, ...) -> folder`` of a comparison: once."""
    return _plainly(_sftbench_work.score)


@pytest.fixture
def sftbench_gate(request: pytest.FixtureRequest, _sftbench_work: Work) -> Gate:
    """Return ``gate(*candidates, baseline, on_inconclusive, **how) -> GateResult``.

    A candidate is a checkpoint, which is scored first (`how` goes to the scoring), or a result:
    the folder of a comparison, or what lm_eval wrote. Several are runs of one recipe. The baseline
    is that of the call, of the marker, of --sftbench-baseline, or of the ini file. The test fails
    where knowledge is lost, and, unless `on_inconclusive` says otherwise, where that is not told.
    """

    def gate(
        *candidates: str | Path,
        baseline: str | Path | None = None,
        on_inconclusive: OnInconclusive | None = None,
        **how: Any,
    ) -> GateResult:
        __tracebackhide__ = True
        marked = _marked(request.node)
        path = _baseline_path(request, baseline or marked.get("baseline"))
        policy = on_inconclusive or marked.get("on_inconclusive") or "fail"
        if policy not in POLICIES:
            pytest.fail(f"sftbench: on_inconclusive={policy!r} is none of {', '.join(POLICIES)}")
        writing = request.config.getoption(WRITE)
        if not writing:
            _plainly(_read)(path)  # before anything is scored
        results = _plainly(_results)(_sftbench_work, candidates, how)
        if writing:
            _plainly(_write)(path, results, marked)
            pytest.skip(f"wrote {path}: nothing was judged")
        judged: GateResult = _plainly(_judge)(path, results, marked)
        _note(request.node, judged)
        _end(judged, policy)
        return judged

    return gate


def _plainly(work: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same function, whose errors for people fail a test without our traceback."""

    def called(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        from sftbench.common.errors import SftbenchError

        try:
            return work(*args, **kwargs)
        except SftbenchError as error:
            said = f"sftbench: {error}"
        pytest.fail(said)

    return called


def _marked(node: pytest.Item) -> dict[str, Any]:
    """Return the marker's arguments; what a test's own says goes over that of its class."""
    __tracebackhide__ = True
    found: dict[str, Any] = {}
    for marker in node.iter_markers(MARKER):  # the closest first
        unknown = set(marker.kwargs) - {*TERMS, "baseline", "on_inconclusive"}
        if unknown or marker.args:
            pytest.fail(
                f"sftbench: the marker knows no {', '.join(sorted(unknown)) or 'bare argument'}\n"
                "Use baseline=, margin=, alpha=, primary=, seeds= or on_inconclusive=."
            )
        found = {**marker.kwargs, **found}
    return found


def _baseline_path(request: pytest.FixtureRequest, named: str | Path | None) -> Path:
    """Return the baseline: a test's is relative to its file, an ini file's to that file."""
    __tracebackhide__ = True
    if named:
        return Path(request.path.parent / named)
    if option := request.config.getoption(BASELINE):
        return Path(option).absolute()
    if ini := request.config.getini(BASELINE):
        return request.config.rootpath / str(ini)
    pytest.fail(
        "sftbench: no baseline is named, and without one nothing can be judged\n"
        "Use @pytest.mark.sftbench(baseline=...), --sftbench-baseline FILE, or the line "
        f"{BASELINE} of the ini file; a first one is made with --sftbench-write-baseline."
    )


def _results(work: Work, candidates: tuple[str | Path, ...], how: dict[str, Any]) -> list[str]:
    """Return the results of the candidates; checkpoints are scored."""
    from sftbench.common.errors import SftbenchError
    from sftbench.gate.from_compare import comparison_at
    from sftbench.gate.from_lm_eval import is_lm_eval

    if not candidates:
        raise SftbenchError("there is no candidate", remedy="sftbench_gate(CHECKPOINT, ...)")
    found = []
    for one in map(str, candidates):
        result = comparison_at(one) is not None or is_lm_eval(Path(one))
        if result and how:
            raise SftbenchError(
                f"is scored already, so {', '.join(how)} would be passed over",
                where=one,
                remedy="Name the checkpoint, or leave these arguments out.",
            )
        found.append(one if result else str(work.score(one, **how)))
    return found


def _judge(path: Path, results: list[str], marked: dict[str, Any]) -> GateResult:
    from sftbench.gate.judge import judge
    from sftbench.gate.read import read_side
    from sftbench.gate.terms import chosen_terms

    read = _read(path)
    terms, notes = chosen_terms(read.terms, **{name: marked.get(name) for name in TERMS})
    result = judge(read.side, read_side(results), terms)
    return result.model_copy(update={"notes": (*notes, *result.notes)})


def _read(path: Path) -> Baseline:
    from sftbench.common.errors import SftbenchError
    from sftbench.gate.baseline import read_baseline

    if not path.is_file():
        raise SftbenchError(
            "there is no such baseline",
            where=path,
            remedy="Make one of accepted runs: sftbench gate init RESULT ... -o FILE, or "
            "pytest --sftbench-write-baseline.",
        )
    return read_baseline(path)


def _write(path: Path, results: list[str], marked: dict[str, Any]) -> None:
    """Write the candidates as the baseline; terms of a file that is there stay as they are."""
    from sftbench.common.errors import SftbenchError
    from sftbench.gate.baseline import write_baseline
    from sftbench.gate.plan import sights_of
    from sftbench.gate.read import read_side
    from sftbench.gate.terms import chosen_terms

    before = _read(path) if path.is_file() else None
    side = read_side(results)
    if before is not None and len(side.runs) < len(before.side.runs):
        raise SftbenchError(
            f"has {len(before.side.runs)} runs, and the test brings {len(side.runs)}",
            where=path,
            remedy="Hand as many candidates to sftbench_gate, or remove the file.",
        )
    declared = None if before is None else before.terms
    terms, _ = chosen_terms(declared, **{name: marked.get(name) for name in TERMS})
    sights_of(side, terms)  # raises where a primary endpoint rests on no fact
    write_baseline(path, side, terms)


def _note(node: pytest.Item, result: GateResult) -> None:
    """Put the verdict into the test's report, from where --junitxml and the summary take it."""
    from sftbench.report.gate_words import NAMES, change, endpoint_name

    figures = "; ".join(f"{endpoint_name(one)} {change(one)} points" for one in result.primary)
    node.user_properties.append((SAID, f"{NAMES[result.verdict]}: {figures}"))


def _end(result: GateResult, policy: OnInconclusive) -> None:
    """End the test as the verdict says."""
    __tracebackhide__ = True
    said = message(result)
    if result.verdict == "inferior":
        pytest.fail(said)
    if result.verdict != "inconclusive":
        return
    if policy == "fail":
        pytest.fail(said)
    if policy == "skip":
        pytest.skip(said.partition("\n")[0])
    warnings.warn(said.partition("\n")[0], RetentionWarning, stacklevel=3)


def message(result: GateResult) -> str:
    """Return what a failed test says: the verdict, the figures, and the lost facts."""
    from sftbench.report.gate_words import in_groups, sentences
    from sftbench.report.words import clip, count, points, signed, signed_bracket

    lines = [*sentences(result), "", f"{'endpoint':22}{'facts':>6}  {'%':>13}  points"]
    lines += [
        f"{one.endpoint:22}{one.n:>6,}  {points(one.baseline) + '→' + points(one.candidate):>13}  "
        f"{signed(one.difference)} {signed_bracket(one, 0)} {one.verdict.replace('_', '-')}"
        for one in in_groups(result)
    ]
    if result.lost:
        shown = result.lost[:10]
        lines += ["", f"{count(len(result.lost), 'lost fact')}, most telling first:"]
        lines += [
            f"  level {one.level}: {clip(one.question).shown} {clip(one.answer).shown} "
            f"(now: {clip(one.said).shown or 'nothing'})"
            for one in shown
        ]
        if len(result.lost) > len(shown):
            lines.append(f"  and {len(result.lost) - len(shown):,} more")
    return "\n".join([*lines, "", *(f"Note: {note}" for note in result.notes)])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print a line for each gate, also of tests that passed, and of other processes."""
    lines = [
        f"{report.nodeid}: {value}"
        for kind in ("passed", "failed", "skipped")
        for report in terminalreporter.stats.get(kind, [])
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == SAID
    ]
    if lines:
        terminalreporter.section("sftbench: knowledge kept")
        for line in lines:
            terminalreporter.line(line)
