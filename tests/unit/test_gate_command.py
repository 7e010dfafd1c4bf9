"""The command sftbench gate: from outputs to a verdict, and misuse told in a line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from gates import answered, facts_of, write_lm_eval
from typer.testing import CliRunner

from sftbench.cli.app import app
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit


def test_a_gate_on_lm_eval_outputs_loads_no_torch():
    code = (
        "import sys; import sftbench.gate.judge, sftbench.gate.read; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def invoke(*arguments):
    return CliRunner().invoke(app, ["gate", *map(str, arguments)])


def error_of(result):
    assert isinstance(result.exception, SftbenchError)
    return str(result.exception)


@pytest.fixture
def baseline(tmp_path):
    facts = facts_of(60)
    base = write_lm_eval(tmp_path / "base", facts, answered(facts, 0.98, 0))
    runs = [
        write_lm_eval(tmp_path / f"run{seed}", facts, answered(facts, 0.97, seed))
        for seed in (1, 2, 3)
    ]
    made = invoke("init", *runs, "--base", base, "-o", tmp_path / "b.parquet", "--margin", "6pp")
    assert made.exit_code == 0, made.exception
    assert "true loss" in made.output
    return tmp_path / "b.parquet"


def test_from_lm_eval_to_a_verdict(baseline, tmp_path):
    facts = facts_of(60)
    for name, share, code in (("good", 0.97, 0), ("bad", 0.7, 1)):
        folder = write_lm_eval(tmp_path / name, facts, answered(facts, share, 9))
        files = [tmp_path / f"{name}.{end}" for end in ("json", "xml", "md")]
        for _ in range(2):  # files of an earlier run are replaced
            found = invoke(
                "--baseline", baseline, "--candidate", folder,
                "-o", files[0], "--junit", files[1], "--markdown", files[2],
            )  # fmt: skip
            assert found.exit_code == code, found.output
        assert json.loads(files[0].read_text())["exit_code"] == code
        assert all(path.stat().st_size for path in files)


def test_terms_of_the_command_line_are_said_where_the_baseline_declares_others(baseline, tmp_path):
    facts = facts_of(60)
    folder = write_lm_eval(tmp_path / "new", facts, answered(facts, 0.97, 9))
    found = invoke("--baseline", baseline, "--candidate", folder, "--margin", "20pp")
    assert "declares margin 0.06; 0.2 is used" in " ".join(found.output.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs --baseline"),
        (["--baseline", "{b}"], "needs --candidate"),
        (["--baseline", "{b}", "--candidate", "nowhere"], "no such folder"),
        (["--baseline", "{b}", "--candidate", "{here}", "--margin", "0"], "is none"),
        (["--baseline", "{b}", "--candidate", "{here}", "--alpha", "0.7"], "is none"),
        (["--baseline", "{b}", "--candidate", "{b}"], "holds no answers"),
        (["--baseline", "{b}", "--baseline", "{b}", "--candidate", "{b}"], "stands alone"),
        (["--baseline", "nowhere.parquet", "--candidate", "{b}"], "no such folder"),
        (["--margin", "10pp", "init", "{here}", "-o", "x"], "stands before init"),
        (["--baseline", "{b}", "--candidate", "{here}", "-o", "{b}"], "is an input"),
        (["--baseline", "{b}", "--candidate", "{here}", "-o", "x", "--junit", "x"], "is an input"),
        (["--baseline", "{b}", "--candidate", "{here}", "-o", "{b}/x"], "cannot be written"),
        (["power", "--baseline", "{b}", "--runs", "3"], "of the baseline's own runs"),
        (["power"], "either --baseline or --facts"),
        (["power", "--facts", "100", "--discordance", "0"], "Two runs that never differ"),
        (["power", "--facts", "100", "--margin", "100pp"], "is none"),
    ],
)
def test_misuse_is_told_in_a_line(baseline, tmp_path, arguments, said):
    filled = [one.format(b=baseline, here=tmp_path / "run1") for one in arguments]
    assert said in error_of(invoke(*filled))


def test_power_from_numbers_and_from_a_baseline(baseline):
    found = invoke("power", "--facts", "1000", "--levels", "1", "--margin", "3pp")
    assert "1,027" in found.output.replace(" ", "") or "1,03" in found.output
    assert "retention:in" in invoke("power", "--baseline", baseline).output
