"""A results folder: one bad file stops no other; the commands and the checks that read it."""

from __future__ import annotations

import os
import shutil

import pytest
from leaderboards import change, put
from sftbench_leaderboard.folder import verdicts
from sftbench_leaderboard.layout import place_of
from sftbench_leaderboard.validate import validate
from typer.testing import CliRunner

from sftbench.cli.app import app

pytestmark = pytest.mark.unit
pytest_plugins = ["pytester"]


def codes(path, known):
    return [one.code for one in validate(path, known).problems]


def test_one_corrupt_file_stops_no_other(results, paths, known, tmp_path):
    first, second, third = paths
    first.write_bytes(b"\x00not json")
    (results / "README.md").write_text("Results.")
    (second.parent / "notes.txt").write_text("a stray file")
    (second.parent / "lost.items.parquet").write_bytes(b"")
    (third.parent / "link.json").symlink_to(third)
    (results / "linked").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(third.parent / "pipe.json")
    found = {one.path.name: one for one in verdicts(results, known) if not one.ok}
    good = [one.path for one in verdicts(results, known) if one.ok]
    assert sorted(good) == sorted([second, third])
    assert {name: one.problems[0].code for name, one in found.items()} == {
        "numbers-paper.json": "json",
        "notes.txt": "stray-file",
        "lost.items.parquet": "stray-file",
        "link.json": "symlink",
        "linked": "symlink",
        "pipe.json": "unreadable",
    }


def test_the_same_model_under_another_name_is_a_duplicate(path, results, known):
    other = results / place_of("zz/copy", path.parent.name, path.stem)
    shutil.copytree(path.parent, other.parent)
    change(other, put("model.name", "zz/copy"))
    found = [one for one in verdicts(results, known) if not one.ok]
    assert [(one.path, one.problems[0].code) for one in found] == [(other, "duplicate")]
    assert codes(other, known) == []


def test_a_record_in_another_place_is_refused(path, results, known):
    other = results / "a__b" / ("0" * 32) / path.name
    shutil.copytree(path.parent, other.parent)
    assert "place" in codes(other, known)


@pytest.fixture
def named(known, tmp_path):
    """Return the options that name the facts and the card of the results."""
    known.facts[0].write(tmp_path / "facts.parquet")
    known.cards[0].write(tmp_path / "card.parquet")
    return ["--facts", str(tmp_path / "facts.parquet"), "--card", str(tmp_path / "card.parquet")]


def test_the_command_exits_with_the_verdict(results, path, named, tmp_path):
    arguments = ["leaderboard", "validate", str(results), *named]
    found = CliRunner().invoke(app, arguments)
    assert (found.exit_code, found.output) == (0, "3 accepted, 0 rejected\n")
    change(path, put("domains.0.retention.score", 0.99))
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 1
    assert "[headline] domains.0.retention.score: says 0.99, and the items give 0.75" in (
        found.output
    )
    found = CliRunner().invoke(app, ["leaderboard", "validate", str(tmp_path / "none")])
    assert "no such folder" in str(found.exception)


def test_the_checks_run_as_plain_pytest(pytester, results, path, named):
    options = ["--pyargs", "sftbench_leaderboard.checks", "-p", "no:cacheprovider"]
    facts, card = named[1], named[3]
    mine = ["--sftbench-results", str(results), "--sftbench-facts", facts, "--sftbench-card", card]
    pytester.runpytest_inprocess(*options, *mine).assert_outcomes(passed=3)
    change(path, put("domains.0.retention.score", 0.99))
    found = pytester.runpytest_inprocess(*options, *mine)
    found.assert_outcomes(passed=2, failed=1)
    found.stdout.fnmatch_lines(["*headline*says 0.99*"])
    pytester.runpytest_inprocess(*options).assert_outcomes(errors=1)
