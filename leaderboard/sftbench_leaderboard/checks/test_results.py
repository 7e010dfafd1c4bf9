"""One test for each file of a results folder: the record is accepted, or the reasons are shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from sftbench_leaderboard.problems import Verdict

RESULTS, FACTS, CARDS = "--sftbench-results", "--sftbench-facts", "--sftbench-card"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of every verdict; duplicates are found, as the folder is read as a whole."""
    named = metafunc.config.getoption(RESULTS)
    if not named:
        raise pytest.UsageError(f"name the folder of results: {RESULTS} DIR")
    results = Path(named)
    found = _verdicts(results, metafunc.config)
    names = [ascii(str(one.path.relative_to(results)))[1:-1] for one in found]
    metafunc.parametrize("verdict", found, ids=names)


def _verdicts(results: Path, config: pytest.Config) -> list[Verdict]:
    from sftbench_leaderboard.folder import verdicts
    from sftbench_leaderboard.known import Known

    try:
        known = Known.of(config.getoption(FACTS) or (), config.getoption(CARDS) or ())
        return list(verdicts(results, known))
    except SftbenchError as error:
        raise pytest.UsageError(str(error)) from None


def test_the_record_is_accepted(verdict: Verdict) -> None:
    """Fail with every reason for which a record is rejected."""
    if not verdict.ok:
        pytest.fail("\n".join(map(str, verdict.problems)), pytrace=False)
