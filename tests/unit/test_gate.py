"""The gate: verdicts, what is refused, baseline files, lm-eval folders, and how it is shown."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from xml.etree import ElementTree as Xml

import polars as pl
import pytest
from gates import TIME, answered, facts_of, side, write_lm_eval
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from sftbench.analysis.exact import holm
from sftbench.analysis.gate import Terms
from sftbench.cli.app import app
from sftbench.common.errors import SftbenchError
from sftbench.gate.baseline import BASELINE, read_baseline, write_baseline
from sftbench.gate.endpoints import Endpoint, all_endpoints, parse_endpoint
from sftbench.gate.from_lm_eval import side_of_lm_eval
from sftbench.gate.judge import judge
from sftbench.gate.plan import sights_of
from sftbench.gate.read import read_side
from sftbench.gate.sides import joined
from sftbench.gate.terms import parse_margin
from sftbench.report.gate_junit import clean, junit
from sftbench.report.gate_markdown import markdown, plain
from sftbench.report.gate_terminal import print_gate
from sftbench.report.gate_words import sentences

pytestmark = pytest.mark.unit

TERMS = Terms(margin=0.05, alpha=0.05, primary=("retention:in",), seeds=1)


def endpoint(result, name):
    return next(one for one in result.endpoints if one.endpoint == name)


def test_a_candidate_like_the_baseline_passes():
    result = judge(side(0.97, 0.97, 0.97), side(0.97, 0.97, 0.97, name="new", seed=1), TERMS)
    assert (result.verdict, result.exit_code) == ("non_inferior", 0)
    assert endpoint(result, "retention:in").low > -0.05


def test_a_candidate_that_loses_a_fifth_fails():
    result = judge(side(0.95), side(0.75, name="new", seed=1), TERMS)
    assert (result.verdict, result.exit_code) == ("inferior", 1)
    assert not result.passed
    assert {one.fact_id[0] for one in result.lost} == {"i", "o"}


@pytest.mark.parametrize(("policy", "code"), [("report", 3), ("pass", 0), ("fail", 1)])
def test_what_too_few_facts_do_not_tell_is_inconclusive_and_says_what_would(policy, code):
    few = facts_of(12)
    result = judge(side(0.9, facts=few), side(0.9, name="new", seed=1, facts=few), TERMS, policy)
    assert (result.verdict, result.exit_code) == ("inconclusive", code)
    assert endpoint(result, "retention:in").settling is not None
    assert any("settle" in line for line in sentences(result))


def test_the_very_same_answers_on_few_facts_are_no_pass():
    few = facts_of(5)
    mine = side(0.9, facts=few)
    other = replace(
        mine,
        name="new",
        runs=(replace(mine.runs[0], name=mine.runs[0].name.model_copy(update={"digest": "x"})),),
    )
    result = judge(mine, other, TERMS)
    assert endpoint(result, "retention:in").difference == 0
    assert result.verdict == "inconclusive"


def test_figures_are_means_over_runs_and_levels():
    mine, other = side(0.9, 0.8), side(0.7, name="new", seed=3)
    result = judge(mine, other, TERMS)
    one = endpoint(result, "retention:in")
    known = mine.facts.join(mine.base, on="fact_id").filter(
        pl.col("right"), pl.col("domain") == "in", pl.col("level") > 0
    )
    by_run = [
        known.select("fact_id", "level")
        .join(run.right, on="fact_id")
        .group_by("level")
        .agg(pl.col("right").mean())["right"]
        .mean()
        for run in (*mine.runs, *other.runs)
    ]
    assert one.baseline == pytest.approx((by_run[0] + by_run[1]) / 2)
    assert one.candidate == pytest.approx(by_run[2])
    assert one.difference == pytest.approx(one.candidate - one.baseline)
    assert one.n == known.height


def test_primary_endpoints_are_not_adjusted_and_the_others_are():
    result = judge(side(0.9), side(0.86, name="new", seed=1), TERMS)
    alone = [
        judge(
            side(0.9),
            side(0.86, name="new", seed=1),
            TERMS.model_copy(update={"primary": (one.endpoint,)}),
        )
        for one in result.others
    ]
    raw = [result_.primary[0].p_noninferior for result_ in alone]
    assert [one.p_noninferior for one in result.others] == pytest.approx(raw)
    assert [one.p_noninferior_holm for one in result.others] == pytest.approx(holm(raw))


def test_each_of_several_primary_endpoints_must_pass():
    facts = facts_of()
    mine = side(0.97, 0.97, 0.97, facts=facts)
    worse = side(0.97, 0.97, 0.97, name="new", seed=1, facts=facts)
    out = pl.col("fact_id").str.starts_with("out")
    runs = tuple(
        replace(
            run,
            right=run.right.with_columns(
                right=pl.col("right") & ~(out & pl.col("fact_id").str.ends_with("1"))
            ),
        )
        for run in worse.runs
    )
    worse = replace(worse, runs=runs)
    alone = judge(mine, worse, TERMS)
    assert alone.primary[0].verdict == "non_inferior"
    both = judge(
        mine, worse, TERMS.model_copy(update={"primary": ("retention:in", "retention:out")})
    )
    assert both.verdict in ("inferior", "inconclusive")


def test_an_endpoint_that_does_not_decide_fails_the_gate_where_it_is_shown_to_be_inferior():
    mine, new = side(0.98, 0.98, 0.98), side(0.98, 0.98, 0.98, name="new", seed=1)
    out = pl.col("fact_id").str.starts_with("out")
    runs = tuple(
        replace(run, right=run.right.with_columns(right=pl.col("right") & ~out)) for run in new.runs
    )
    result = judge(mine, replace(new, runs=runs), TERMS)
    assert result.primary[0].verdict == "non_inferior"
    assert (result.verdict, result.exit_code) == ("inferior", 1)
    assert any("did not fail" in line for line in sentences(result))


# What is refused


@pytest.mark.parametrize("name", ["base", "suite", "mastery card", "answers", "decoding"])
def test_sides_that_were_made_otherwise_are_refused_and_the_difference_is_named(name):
    mine, other = side(0.9), side(0.9, name="new", seed=1)
    mine, other = (
        replace(one, identity={**one.identity, name: letter * 32})
        for one, letter in ((mine, "a"), (other, "c"))
    )
    with pytest.raises(SftbenchError, match=f"differ in {name} \\(a+ and c+\\)") as error:
        judge(mine, other, TERMS)
    assert "gate init" in error.value.remedy


def test_other_facts_are_named_once_and_not_as_other_levels_and_questions():
    with pytest.raises(SftbenchError) as error:
        judge(side(0.9), side(0.9, name="new", seed=1, facts=facts_of(60)), TERMS)
    assert "facts asked" in str(error.value)
    assert "questions" not in str(error.value)


@pytest.mark.parametrize("name", ["questions", "mastery card", "decoding"])
def test_a_side_that_does_not_say_what_it_must_is_no_side(name):
    mine, other = side(0.9), side(0.9, name="new", seed=1)
    less = {key: value for key, value in mine.identity.items() if key != name}
    with pytest.raises(SftbenchError, match=f"does not say what it must: {name}"):
        judge(replace(mine, identity=less), other, TERMS)


@pytest.mark.parametrize("field", ["recipe", "variant"])
def test_a_side_is_runs_of_one_recipe(field):
    parts = []
    for value in ("a", "b"):
        one = side(0.9, name=value, seed=ord(value))
        name = one.runs[0].name.model_copy(update={field: value, "seed": ord(value)})
        parts.append(replace(one, runs=(replace(one.runs[0], name=name),)))
    with pytest.raises(SftbenchError, match=f"different {field}"):
        joined("x", parts)


def test_runs_of_the_baseline_may_be_the_candidate_but_not_help_it():
    mine = side(0.97, 0.97, 0.97)
    again = judge(mine, replace(mine, name="again"), TERMS)
    assert any("a run of the baseline itself" in note for note in again.notes)
    mixed = replace(side(0.7, name="new", seed=1), name="mixed")
    mixed = replace(mixed, runs=(*mixed.runs, *mine.runs[:2]))
    with pytest.raises(SftbenchError, match="holds runs of recipe"):
        judge(mine, mixed, TERMS)


def test_two_lm_eval_sides_say_what_nobody_recorded(tmp_path):
    facts = facts_of(60)
    sides = [
        side_of_lm_eval(write_lm_eval(tmp_path / str(seed), facts, answered(facts, 0.9, seed)))
        for seed in (1, 2)
    ]
    found = judge(*sides, TERMS.model_copy(update={"primary": ("accuracy:in",)}))
    assert any("not compared: base, tokenizer of the base" in note for note in found.notes)


def test_answers_that_were_drawn_otherwise_are_refused(tmp_path):
    facts = facts_of(20)
    sides = [
        side_of_lm_eval(
            write_lm_eval(tmp_path / str(seed), facts, answered(facts, 0.9, seed), drawn=how)
        )
        for seed, how in ((1, None), (2, {"do_sample": True, "temperature": 1.0}))
    ]
    with pytest.raises(SftbenchError, match="differ in decoding"):
        judge(*sides, TERMS)


def test_a_copy_of_an_lm_eval_folder_is_no_further_run(tmp_path):
    facts = facts_of(20)
    for name in ("one", "copy"):
        write_lm_eval(tmp_path / name, facts, answered(facts, 0.9, 1))
    with pytest.raises(SftbenchError, match="the same weights or answers"):
        read_side([str(tmp_path / "one"), str(tmp_path / "copy")])


def test_fewer_runs_than_promised_are_refused():
    with pytest.raises(SftbenchError, match="1 of the 3 runs"):
        judge(side(0.9), side(0.9, name="new"), TERMS.model_copy(update={"seeds": 3}))


@pytest.mark.parametrize(("field", "value"), [("digest", "same"), ("seed", 0), ("name", "same")])
def test_a_run_counts_once(field, value):
    runs = side(0.9, 0.9).runs
    same = [replace(run, name=run.name.model_copy(update={field: value})) for run in runs]
    parts = [replace(side(0.9), runs=(run,)) for run in same]
    with pytest.raises(SftbenchError, match="have the same"):
        joined("x", parts)


def test_a_base_that_answers_otherwise_is_another_engine():
    with pytest.raises(SftbenchError, match="the base itself"):
        judge(side(0.9), side(0.9, name="new", seed=1, base=0.85), TERMS)


def test_a_few_flips_of_the_base_are_said():
    mine = side(0.9)
    first = mine.base["fact_id"][500]
    flipped = mine.base.with_columns(
        right=pl.when(pl.col("fact_id") == first).then(~pl.col("right")).otherwise("right")
    )
    other = replace(side(0.9, name="new", seed=1), base=flipped)
    assert any("1 of 800 facts" in note for note in judge(mine, other, TERMS).notes)


def test_retention_needs_the_base():
    mine, other = side(0.9, base=None), side(0.9, name="new", seed=1, base=None)
    with pytest.raises(SftbenchError, match="needs what the base answers"):
        judge(mine, other, TERMS)
    terms = TERMS.model_copy(update={"primary": ("accuracy:in",)})
    assert judge(mine, other, terms).primary[0].endpoint == "accuracy:in"


def test_an_endpoint_without_facts_is_refused():
    facts = facts_of(domains=("in",))
    with pytest.raises(SftbenchError, match="rests on no fact"):
        judge(
            side(0.9, facts=facts),
            side(0.9, name="new", facts=facts, seed=1),
            TERMS.model_copy(update={"primary": ("retention:out",)}),
        )


@pytest.mark.parametrize("text", ["retention", "retention:up", "loss:in", "retention:in:level0",
                                  "accuracy:in:level9", "accuracy:in:3", ""])  # fmt: skip
def test_unknown_endpoints(text):
    with pytest.raises(SftbenchError, match="no endpoint"):
        parse_endpoint(text)


def test_endpoint_names_are_read_as_they_are_written():
    known = facts_of().with_columns(base=pl.lit(value=True))
    found = all_endpoints(known)
    assert len(found) == len({one.name for one in found}) == 12
    assert [parse_endpoint(one.name) for one in found] == found
    assert parse_endpoint("accuracy:in:level0") == Endpoint("accuracy", "in", 0)


@pytest.mark.parametrize("text", ["0", "0pp", "100pp", "1", "-2pp", "nan", "two", "", "2"])
def test_margins_that_are_none(text):
    with pytest.raises(SftbenchError, match="is none"):
        parse_margin(text)


def test_margins():
    assert parse_margin("2pp") == pytest.approx(0.02)
    assert parse_margin(" 0.02 ") == 0.02
    assert parse_margin("0.5pp") == pytest.approx(0.005)


# Baseline files


def test_a_baseline_file_says_what_the_runs_said(tmp_path):
    mine = side(0.9, 0.8)
    terms = TERMS.model_copy(update={"seeds": 2})
    write_baseline(tmp_path / "b.parquet", mine, terms)
    read = read_baseline(tmp_path / "b.parquet")
    assert read.terms == terms
    assert read.side.identity == mine.identity
    assert read.side.record.runs == mine.record.runs
    candidate = side(0.85, 0.88, name="new", seed=5)
    direct, through = (judge(one, candidate, terms) for one in (mine, read.side))
    assert direct.endpoints == through.endpoints
    assert [one.fact_id for one in direct.lost] == [one.fact_id for one in through.lost]


def test_a_baseline_without_a_base(tmp_path):
    terms = TERMS.model_copy(update={"primary": ("accuracy:in",)})
    write_baseline(tmp_path / "b.parquet", side(0.9, base=None), terms)
    assert read_baseline(tmp_path / "b.parquet").side.base is None


@pytest.mark.parametrize(
    "change", ["suite", "digest", "runs", "terms", "identity", "margin", "circumstances"]
)
def test_a_baseline_that_was_changed_is_refused(tmp_path, change):
    path = tmp_path / "b.parquet"
    write_baseline(path, side(0.9, 0.8), TERMS)
    frame, record = BASELINE.read(path)
    if change == "digest":
        frame = frame.with_columns(level=pl.lit(4, pl.Int8))
    elif change == "runs":
        record["runs"] = record["runs"][:1]
    elif change == "margin":
        record["terms"]["margin"] = 0.5
    elif change in ("identity", "circumstances"):
        record[change] = {} if change == "identity" else "x"
    else:
        record[change] = "0.9" if change == "suite" else {"margin": 3}
    BASELINE.write(frame, path, record)
    with pytest.raises(SftbenchError, match=r"suite|digest|whole") as error:
        read_baseline(path)
    assert "gate init" in error.value.remedy


def test_another_table_is_no_baseline(tmp_path):
    facts_of().write_parquet(tmp_path / "x.parquet")
    with pytest.raises(SftbenchError):
        read_baseline(tmp_path / "x.parquet")


# lm-eval


def test_lm_eval_outputs_are_a_side(tmp_path):
    facts = facts_of(20)
    right = answered(facts, 0.9, 4)
    found = side_of_lm_eval(write_lm_eval(tmp_path / "run" / "model", facts, right).parent)
    assert found.facts.equals(facts)
    assert found.runs[0].right.sort("fact_id").equals(right)
    assert found.identity["suite"] == "1.0"
    assert found.identity["number format"] == "float32"
    assert found.base is None


def test_a_base_from_lm_eval_gives_retention(tmp_path):
    facts = facts_of(60)
    folders = [
        str(write_lm_eval(tmp_path / name, facts, answered(facts, share, number)))
        for number, (name, share) in enumerate((("base", 0.97), ("one", 0.95), ("two", 0.9)))
    ]
    sides = [read_side([folder], folders[0]) for folder in folders[1:]]
    result = judge(*sides, TERMS)
    assert result.primary[0].n < 240
    assert result.primary[0].lost > 0


def spoil_results(folder, name, value):
    """Write another value into the results of a run."""
    path = folder / f"results_{TIME}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))


def write_again(folder, **how):
    """Write another run into a folder."""
    write_lm_eval(folder, facts_of(4), answered(facts_of(4), 0.5, 1), **how)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: write_again(f, time="2026-01-01T00-00-00.0"), "2 runs"),
        (lambda f: (f / f"results_{TIME}.json").unlink(), "no results"),
        (lambda f: [one.unlink() for one in f.glob("samples_*")], "no samples"),
        (lambda f: next(f.glob("samples_*in_level2*")).unlink(), "holds 0 samples"),
        (lambda f: next(f.glob("samples_*in_level2*")).write_text('{"doc": {}}\n'), "line 1"),
        (lambda f: next(f.glob("samples_*in_level2*")).write_text("no json\n"), "line 1"),
        (lambda f: (f / f"results_{TIME}.json").write_text("[]"), "no results file"),
        (lambda f: spoil_results(f, "n-samples", []), "not lm-eval's"),
        (lambda f: spoil_results(f, "n-samples", {}), "results say 0"),
        (lambda f: spoil_results(f, "versions", {"sft_knowledge_in_level1": "one"}), "not lm-eval"),
        (lambda f: spoil_results(f, "n-shot", None), "not lm-eval's"),
        (lambda f: spoil_results(f, "config", "x"), "not lm-eval's"),
        (lambda f: write_again(f, group="sft_knowledge_paper"), "2 groups"),
    ],
)  # fmt: skip
def test_lm_eval_folders_that_are_not_whole_or_mixed(tmp_path, spoil, said):
    facts = facts_of(4)
    folder = write_lm_eval(tmp_path / "run", facts, answered(facts, 0.9, 1))
    spoil(folder)
    with pytest.raises(SftbenchError, match=said) as error:
        side_of_lm_eval(folder)
    assert error.value.remedy


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_samples_that_are_spoilt_anywhere_are_refused_or_read(tmp_path_factory, data):
    facts = facts_of(2, domains=("in",))
    folder = write_lm_eval(tmp_path_factory.mktemp("x") / "run", facts, answered(facts, 0.9, 1))
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with suppress(SftbenchError):
        assert side_of_lm_eval(folder).facts.height <= facts.height


# How it is shown


def hostile(result):
    """Return the result with answers that are markup, mentions and what XML cannot hold."""
    lost = tuple(
        one.model_copy(
            update={
                "said": "<script>alert(1)</script>\x00 @everyone | `x` \ud800 https://evil.example",
                "answer": ']]> & "q" \x1b[31m',
            }
        )
        for one in result.lost
    )
    return result.model_copy(update={"lost": lost})


def test_junit_fails_just_where_the_command_does():
    facts = facts_of(12)
    cases = [
        (side(0.95), side(0.75, name="new", seed=1), "report"),
        (side(0.97, 0.97, 0.97), side(0.97, 0.97, 0.97, name="new", seed=1), "report"),
        *[
            (side(0.9, facts=facts), side(0.9, name="new", seed=1, facts=facts), policy)
            for policy in ("report", "pass", "fail")
        ],
    ]
    for mine, other, policy in cases:
        result = hostile(judge(mine, other, TERMS, policy))
        root = Xml.fromstring(junit(result))
        failures = root.findall(".//failure")
        assert bool(failures) == (result.exit_code != 0)
        suite = root.find("testsuite")
        assert int(suite.get("tests")) == len(suite.findall("testcase")) == len(result.endpoints)
        assert int(suite.get("failures")) == len(failures)
        assert int(suite.get("skipped")) == len(root.findall(".//skipped"))


def test_junit_names_the_lost_facts():
    result = judge(side(0.95), side(0.75, name="new", seed=1), TERMS)
    text = Xml.fromstring(junit(result)).find(".//failure").text
    assert result.lost[0].question in text


def test_markdown_runs_nothing_and_calls_nobody():
    result = hostile(judge(side(0.95), side(0.75, name="new", seed=1), TERMS))
    text = markdown(result)
    assert "<script" not in text
    assert "@everyone" not in text
    assert "https://" not in text
    rows = [line for line in text.splitlines() if line.startswith("| Where")]
    assert rows
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 7 for row in rows)


@given(st.text(max_size=60))
def test_plain_text_stays_on_one_line_and_holds_no_markup(text):
    shown = plain(text)
    assert "\n" not in shown
    assert "<" not in shown.replace("&lt;", "")
    assert not re.search(r"(?<!\\)[`|*_]", shown)


@given(st.text(max_size=60))
def test_cleaned_text_is_xml(text):
    assert (
        Xml.fromstring(f"<a>{Xml.tostring(_element(clean(text)), encoding='unicode')}</a>")
        is not None
    )


def _element(text):
    element = Xml.Element("b")
    element.text = text
    return element


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_cuts_no_figure(width):
    result = judge(side(0.95), side(0.75, name="new", seed=1), TERMS)
    console = Console(width=width, record=True, file=io.StringIO())
    print_gate(console, result)
    text = console.export_text()
    head = text.partition("Lost facts")[0]
    assert "…" not in head
    assert "inferior" in text


# What a gate sees


def test_what_a_gate_sees_is_told_from_the_runs():
    (found,) = sights_of(side(0.9, 0.9, 0.9), TERMS)
    assert "3 runs" in found.assumed
    assert found.planned.discordance == pytest.approx((0.18,) * 4, abs=0.06)
    passes = [chance.passes for _, chance in found.losses]
    assert passes == sorted(passes, reverse=True)
    at_margin = dict(found.losses)[TERMS.margin]
    assert at_margin.passes <= 0.055


def test_one_run_says_what_is_assumed():
    (found,) = sights_of(side(0.9), TERMS)
    assert "one run shows nothing" in found.assumed


# The command


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
