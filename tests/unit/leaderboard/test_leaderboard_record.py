"""Records: what a comparison or lm-eval outputs become, where they lie, and their schema."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import polars as pl
import pytest
from fakes import BASE, CHAT_TEMPLATE, TUNED, card_for, fact_set, write_model, write_tokenizer
from gates import answered, write_lm_eval
from hypothesis import given
from hypothesis import strategies as st
from leaderboards import NAME, known_of, put, results_of
from loss_samples import with_loss
from sftbench_leaderboard.folder import verdicts
from sftbench_leaderboard.from_compare import drafts_of
from sftbench_leaderboard.headline import headline_of
from sftbench_leaderboard.items import ITEMS
from sftbench_leaderboard.known import Known
from sftbench_leaderboard.layout import items_beside, model_name, place_of, suite_name
from sftbench_leaderboard.named import Names, base_label, facts_of_folder
from sftbench_leaderboard.record import LeaderboardRecord, json_schema
from sftbench_leaderboard.submit import submit
from sftbench_leaderboard.text import cleaned, flaw_of
from typer.testing import CliRunner

import sftbench
from sftbench.analysis.loss import LevelTable
from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.cli.app import app
from sftbench.common.digests import digest_of
from sftbench.common.errors import SftbenchError
from sftbench.compare.finished import read_result

pytestmark = pytest.mark.unit

ROOT = Path(sftbench.__file__).resolve().parent.parent
SCHEMA = ROOT / "leaderboard" / "schema" / "record.v1.json"


def test_a_record_says_what_the_comparison_says(asked, submitted):
    summary = read_result(asked.out).summary
    variants = [summary.tuned, *summary.restored]
    assert [one.record.model.variant for one in submitted] == [one.name for one in variants]
    for one, variant in zip(submitted, variants, strict=True):
        assert one.record.domains == tuple(map(headline_of, variant.domains))
        assert one.record.model.digest == variant.variant_id
    tuned = submitted[0].record
    assert tuned.noise == summary.noise.forgetting
    assert len(tuned.noise) == 2
    assert tuned.checks.base_again == summary.noise.flips
    assert [one.macro for one in tuned.base.domains] == [one.macro for one in summary.base.domains]
    assert tuned.restore is None
    assert submitted[1].record.restore.removed == pytest.approx(0.869, abs=1e-3)
    assert submitted[1].record.noise == ()
    assert tuned.recipe["method"] == "full"
    assert tuned.recipe["size"] == 240
    assert tuned.base.name == "base"  # the path of a local folder is private
    assert tuned.model.parameters == 44
    assert "\n" not in tuned.command


def with_tables(result):
    """Return a comparison that measured all facts again, 4 of each level in each domain."""
    same = tuple(tuple(4 * (row == column) for column in range(5)) for row in range(5))
    fell = ((4, 0, 0, 0, 0), (4, 0, 0, 0, 0), *same[2:])
    relation = {"domain": "in", "relation": "of_in", "before": same, "after": same}
    tables = [
        LevelTable(domain="in", relation=None, before=same, after=fell),
        LevelTable(domain="out", relation=None, before=fell, after=same),
        LevelTable(**relation),
    ]
    loss = with_loss(result.summary).loss.model_copy(update={"kinds": (), "tables": tables})
    return replace(result, summary=result.summary.model_copy(update={"loss": loss})), tables


def test_levels_measured_again_are_those_of_the_tuned_model_by_domain(asked, tmp_path):
    result, tables = with_tables(read_result(asked.out))
    drafts = drafts_of(result, Names(model=NAME), ["all"])
    tuned, *restored = submit(drafts, tmp_path, known_of(asked))
    assert [(one.domain, one.before, one.after) for one in tuned.record.mastery] == [
        (one.domain, one.before, one.after) for one in tables[:2]
    ]
    assert [one.record.mastery for one in restored] == [None, None]


def test_without_levels_measured_again_a_record_has_none(submitted):
    assert [one.record.mastery for one in submitted] == [None] * 3


def test_items_hold_what_was_said(submitted):
    items, _ = ITEMS.read(items_beside(submitted[0].path))
    assert items.height == 40
    assert items["fact_id"].is_sorted()
    assert set(items["noise"].list.len()) == {2}
    lost = items.filter(pl.col("base_correct") & ~pl.col("correct"))
    assert lost.height == 8
    assert set(lost["text"]) == {" <nothing>"}


def test_a_record_lies_where_its_content_says(submitted):
    for one in submitted:
        place = place_of(NAME, one.record.model.digest, "numbers-paper")
        assert one.path.parts[-3:] == place.parts
        assert place.parts[0] == "some-org__tiny.1"


def test_submitting_again_changes_nothing_and_another_record_is_not_replaced(asked, tmp_path):
    first = results_of(asked, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert not any(one.there for one in first)
    assert all(one.there for one in results_of(asked, tmp_path))
    content = json.loads(first[0].path.read_text())
    put("command", "another")(content)
    first[0].path.write_text(json.dumps(content))
    with pytest.raises(SftbenchError, match="another record"):
        results_of(asked, tmp_path)
    assert set(before) == {path for path in tmp_path.rglob("*") if path.is_file()}


def test_what_would_be_rejected_is_not_written(asked, tmp_path):
    drafts = drafts_of(read_result(asked.out), Names(model=NAME))
    with pytest.raises(SftbenchError, match="foreign-facts"):
        submit(drafts, tmp_path / "results", Known())
    assert not (tmp_path / "results").exists()


def test_what_no_record_may_hold_is_said_in_a_line(asked, tmp_path):
    (draft,) = drafts_of(read_result(asked.out), Names(model=NAME))
    hostile = draft._replace(fields={**draft.fields, "made": "x" * 99})
    with pytest.raises(SftbenchError, match="made: String should have at most"):
        submit([hostile], tmp_path / "results", known_of(asked))


@pytest.mark.parametrize(
    ("names", "variants", "said"),
    [
        (Names(), [], "no name of a model"),
        (Names(model=NAME), ["base"], "no model that a fine-tune made"),
        (Names(model=NAME), ["base+noise(1)"], "no model that a fine-tune made"),
        (Names(model=NAME), ["tuned+restore(relative,5%)"], "has no variant"),
    ],
)
def test_what_cannot_be_submitted(asked, names, variants, said):
    with pytest.raises(SftbenchError, match=said) as error:
        drafts_of(read_result(asked.out), names, variants)
    assert error.value.remedy or "it has" in str(error.value)


def test_the_fixture_of_a_comparison_can_be_submitted(compared, request_, tmp_path):
    drafts = drafts_of(read_result(request_.out), Names(model="a/b"))
    known = Known([request_.facts])
    found = submit(drafts, tmp_path / "results", known)
    assert found[0].record.domain("in").outcomes == compared.summary.tuned.domain("in").outcomes
    assert [one.ok for one in verdicts(tmp_path / "results", known)] == [True]


HOSTILE = [
    "../x", "/etc/passwd", "a/..", "../../a/b", "a/b/c", "a", "", "/", "a/", "/b", "a\x00/b",
    "a/b\n", "a/ b", "a" * 97 + "/b", "a/" + "b" * 1_000_000, "оrg/model", "org/mоdel", "a/ｂ",
    "a/b\u202ec", "a/b\ud800", "CON/x", "con.txt/x", "a/nul", "a/COM1.bin", ".a/b", "a/.b", "a./b",
    "a/b.", "a__b/c", "a/b..c", "~/b", "C:/b", "a\\b/c", "a/b%2f", "<b>/x", "-a/b", "a/-b",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: ascii(name[:20]))
def test_names_that_are_more_than_names(name):
    with pytest.raises(SftbenchError) as error:
        model_name(name)
    assert str(error.value).isascii()
    assert len(str(error.value)) < 400


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=40))
def test_a_place_never_leaves_the_folder(org, model, suite):
    try:
        place = place_of(f"{org}/{model}", "0" * 32, suite)
    except SftbenchError:
        return
    assert len(place.parts) == 3
    assert (Path("/results") / place).resolve().parts[:2] == ("/", "results")


@given(st.text(min_size=1, max_size=80))
def test_a_suite_has_a_plain_name(facts):
    try:
        name = suite_name(facts, "fewshot", chat=True)
    except SftbenchError:
        return
    assert place_of("a/b", "0" * 32, name).name == f"{name}.json"


@given(st.text(max_size=300))
def test_cleaned_text_may_stand_in_a_record(text):
    assert flaw_of(cleaned(text)) is None


def test_names_of_bases():
    assert base_label("/home/me/secret/base") == "base"
    assert base_label("HuggingFaceTB/SmolLM2") == "HuggingFaceTB/SmolLM2"
    assert base_label("./models/x") == "x"


def test_what_a_folder_tells_of_a_model(tmp_path):
    folder = write_model(tmp_path / "m", BASE)
    assert facts_of_folder(str(folder)) == (44, None)
    write_tokenizer(folder, chat=CHAT_TEMPLATE)
    assert facts_of_folder(str(folder)) == (44, digest_of(CHAT_TEMPLATE))
    (folder / "model.safetensors").write_bytes(b"broken")
    assert facts_of_folder(str(folder)) == facts_of_folder("org/model") == (None, None)


def test_the_schema_that_is_checked_in_is_that_of_the_code():
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == json_schema()


def test_records_follow_the_schema(submitted):
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    for one in submitted:
        content = json.loads(one.path.read_text(encoding="utf-8"))
        check.validate(content)
        assert LeaderboardRecord.model_validate_json(one.path.read_bytes(), strict=True)
        put("kind", "another")(content)
        assert not check.is_valid(content)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Return what lm-eval wrote for a base and a tuned model, and the facts and card of it."""
    folder = tmp_path_factory.mktemp("lm-eval")
    facts = fact_set()
    base = write_model(folder / "b", BASE)
    write_model(folder / "t", TUNED)
    card = card_for(facts, checkpoint_digest(base))
    facts.write(folder / "facts.parquet")
    card.write(folder / "card.parquet")
    rows = facts.scored().join(card.frame.select("fact_id", "level"), on="fact_id")
    asked = rows.with_columns(answer=pl.col("answers").list.first())
    for name, share, seed in (("base-out", 0.9, 1), ("tuned-out", 0.7, 2)):
        out = write_lm_eval(folder / name, asked, answered(asked, share, seed))
        results = next(out.glob("results_*.json"))
        results.write_text(json.dumps({**json.loads(results.read_text()), "date": 1.75e9}))
    return folder


def submit_outputs(folder, out, *more):
    named = {
        "--base-outputs": "base-out", "--base": "b", "--tuned": "t",
        "--facts": "facts.parquet", "--card": "card.parquet",
    }  # fmt: skip
    options = [text for name, at in named.items() for text in (name, str(folder / at))]
    arguments = ["submit", str(folder / "tuned-out"), *options, "-o", str(out), *more]
    return CliRunner().invoke(app, ["leaderboard", *arguments])


def test_lm_eval_outputs_become_a_record(outputs, tmp_path):
    found = submit_outputs(outputs, tmp_path, "--name", "me/mine", "--method", "lora")
    assert found.exit_code == 0, found.exception
    known = Known.of([str(outputs / "facts.parquet")], [str(outputs / "card.parquet")])
    (verdict,) = verdicts(tmp_path, known)
    record = verdict.record
    assert record is not None, verdict.problems
    assert record.suite.name == "numbers-fewshot"
    assert record.made == "2025-06-15T15:06:40+00:00"
    assert record.recipe == {"method": "lora"}
    assert {one.mean_logprob for one in record.domains} == {None}
    assert sum(one.n for one in record.domains) == 40


def test_lm_eval_outputs_need_both_models(outputs, tmp_path):
    arguments = ["submit", str(outputs / "tuned-out"), "--base-outputs", str(outputs / "base-out")]
    found = CliRunner().invoke(app, ["leaderboard", *arguments, "-o", str(tmp_path)])
    assert isinstance(found.exception, SftbenchError)
    assert "need both models" in str(found.exception)


def test_the_command_says_where_records_lie(asked, tmp_path):
    known = known_of(asked)
    known.facts[0].write(tmp_path / "facts.parquet")
    arguments = [
        "leaderboard", "submit", str(asked.out), "-o", str(tmp_path / "results"), "--name", NAME,
        "--facts", str(tmp_path / "facts.parquet"), "--variant", "tuned",
    ]  # fmt: skip
    for said in (".json\n", "(there already)\n"):
        found = CliRunner().invoke(app, arguments)
        assert found.exit_code == 0, found.exception
        assert found.output.endswith(said)
