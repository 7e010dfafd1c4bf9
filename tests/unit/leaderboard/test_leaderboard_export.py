"""Records in the formats of others, by the real schema or the libraries' own classes; comments."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from huggingface_hub import (
    EvalResultEntry,
    ModelCard,
    ModelCardData,
    eval_result_entries_to_yaml,
    parse_eval_result_entries,
)
from leaderboards import NAME, change, put
from sftbench_leaderboard.comment import MARKER, comment
from sftbench_leaderboard.every_eval_ever import VERSION
from sftbench_leaderboard.export import FORMATS, Told, export
from sftbench_leaderboard.folder import verdicts
from typer.testing import CliRunner

from sftbench.cli.app import app
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[3]
EVERY = ROOT / "tests" / "data" / "every_eval_ever" / "eval.schema.json"
"""Of the package every-eval-ever 0.3.0 (MIT), which needs Python 3.12."""
URL = "https://example.org/board?a=1&b=2#x"
HOSTILE = "<script>alert(1)</script> | `x` @team: [y](https://evil.example) {{ 7*7 }} !!python/x"


@pytest.fixture(params=["plain", "hostile"])
def records(request, submitted):
    """Return the records, also with a base and a command that are markup of every kind."""
    found = [one.record for one in submitted]
    if request.param == "plain":
        return found
    return [
        one.model_copy(
            update={
                "base": one.base.model_copy(update={"name": HOSTILE}),
                "command": HOSTILE,
                "software": {"sftbench": HOSTILE, HOSTILE: "yes"},
            }
        )
        for one in found
    ]


def exported(records, out, name, told):
    paths = export(records, out, [name], told)
    assert all(path.resolve().is_relative_to((out / name).resolve()) for path in paths)
    assert len(set(paths)) == len(records)
    return [path.read_text(encoding="utf-8") for path in paths]


@pytest.mark.parametrize("told", [Told(), Told("org/facts", URL, "us")])
def test_eval_results_are_what_the_hub_reads(records, tmp_path, told):
    texts = exported(records, tmp_path, "eval-results", told)
    for record, text in zip(records, texts, strict=True):
        data = yaml.safe_load(text)
        entries = parse_eval_result_entries(data)
        assert all(isinstance(one, EvalResultEntry) for one in entries)
        assert eval_result_entries_to_yaml(entries) == data
        assert [one.value for one in entries] == [one.retention.score for one in record.domains]
        assert [one.task_id for one in entries] == ["numbers-paper-in", "numbers-paper-out"]
        assert {one.dataset_id for one in entries} == {told.dataset or "sftbench/numbers"}
        assert {one.source_url for one in entries} == {told.url}
        assert all(record.base.digest in one.notes for one in entries)


@pytest.mark.parametrize("told", [Told(), Told("org/facts", URL, "us")])
def test_a_model_index_is_what_a_model_card_holds(records, tmp_path, told):
    texts = exported(records, tmp_path, "model-index", told)
    for record, text in zip(records, texts, strict=True):
        card = ModelCard(f"---\n{text}---\n# A model\n", ignore_metadata_errors=False)
        assert isinstance(card.data, ModelCardData)
        results = card.data.eval_results
        assert [one.metric_value for one in results] == [
            one.retention.score for one in record.domains
        ]
        assert {one.metric_args["n"] for one in results} == {12}
        assert card.data.to_dict() == yaml.safe_load(text)
        assert card.data.model_name == "tiny.1"


def test_every_eval_ever_follows_its_own_schema(records, tmp_path):
    schema = json.loads(EVERY.read_text(encoding="utf-8"))
    assert schema["version"] == VERSION
    check = jsonschema.Draft7Validator(schema)
    for record, text in zip(
        records, exported(records, tmp_path, "every-eval-ever", Told(organization="us")),
        strict=True,
    ):  # fmt: skip
        data = json.loads(text)
        check.validate(data)
        scores = [one["score_details"] for one in data["evaluation_results"]]
        assert scores[0]["score"] == record.domains[0].retention.score
        interval = record.domains[0].score_interval
        assert scores[0]["uncertainty"]["confidence_interval"]["lower"] == interval.low
        del data["evaluation_results"][0]["metric_config"]["max_score"]
        assert not check.is_valid(data)


def test_files_of_every_eval_ever_are_named_by_what_they_are_of(submitted, tmp_path):
    records = [one.record for one in submitted]
    first, second = (export(records, tmp_path / at, ["every-eval-ever"], Told()) for at in "ab")
    assert [one.name for one in first] == [one.name for one in second]
    pattern = r"data/sftbench/some-org/tiny\.1/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab].*\.json"
    assert all(re.search(pattern, one.as_posix()) for one in first)


def test_without_a_known_fact_there_is_no_score_to_export(submitted, tmp_path):
    record = submitted[0].record
    empty = tuple(
        one.model_copy(update={"retention": one.retention.model_copy(update={"score": None})})
        for one in record.domains
    )
    none = record.model_copy(update={"domains": empty})
    assert exported([none], tmp_path, "eval-results", Told()) == ["[]\n"]
    every = json.loads(exported([none], tmp_path, "every-eval-ever", Told())[0])
    assert len(every["evaluation_results"]) == 2
    with pytest.raises(SftbenchError, match="no format"):
        export([record], tmp_path, ["csv"], Told())


def test_the_schema_is_one_that_check_jsonschema_takes(submitted):
    schema = ROOT / "leaderboard" / "schema" / "record.v1.json"
    for more in (["--check-metaschema", schema], ["--schemafile", schema, submitted[0].path]):
        command = [sys.executable, "-m", "check_jsonschema", *map(str, more)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr


def test_a_comment_sets_a_new_record_beside_its_neighbours(results, paths, known):
    text = comment(list(verdicts(results, known)), paths[:1])
    rows = [line for line in text.splitlines() if line.startswith("| ") and "tiny" in line]
    assert text.startswith(MARKER)
    assert len(rows) == 3
    assert [("**" in row) for row in rows] == [False, False, True]
    assert "75.0" in rows[2]
    assert "9/12" in rows[2]
    assert "never ranked" in text
    assert "Random changes of this size forget" in text


def test_a_comment_says_why_a_record_is_rejected(results, paths, known):
    change(paths[0], put("domains.0.retention.score", 0.99))
    text = comment(list(verdicts(results, known)), paths)
    assert "2 new records, 1 rejected" in text
    assert "says 0.99" in text


def test_a_comment_runs_nothing_and_calls_nobody(results, paths, known):
    for path in paths:
        change(path, put("base.name", HOSTILE[:200]))
    text = comment(list(verdicts(results, known)), paths)
    assert "3 new records" in text
    assert "<script" not in text
    assert "@team" not in text
    assert "https://" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


def test_a_comment_on_many_records_is_short_enough(results, known):
    (one, *_) = verdicts(results, known)
    many = [one._replace(path=results / str(number)) for number in range(300)]
    text = comment(many, [verdict.path for verdict in many])
    assert len(text) < 65_536
    assert "280 further records not shown" in text


def test_the_commands(results, paths, known, tmp_path):
    known.facts[0].write(tmp_path / "facts.parquet")
    named = ["--facts", str(tmp_path / "facts.parquet")]
    paths[0].write_text("{}")
    run = CliRunner().invoke
    found = run(app, ["leaderboard", "export", str(results), "-o", str(tmp_path / "out"), *named])
    assert found.exit_code == 0, found.exception
    assert len(found.stdout.splitlines()) == 2 * len(FORMATS)
    assert "1 rejected" in found.stderr
    found = run(app, ["leaderboard", "comment", str(results), str(paths[1]), *named])
    assert NAME.split("/", maxsplit=1)[0] in found.output
    found = run(app, ["leaderboard", "schema", "-o", str(tmp_path / "schema.json")])
    assert found.exit_code == 0
    assert json.loads((tmp_path / "schema.json").read_text())["type"] == "object"
