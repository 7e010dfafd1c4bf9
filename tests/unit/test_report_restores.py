"""Restores of any rule in the report: names, sentences, charts, tables, the chosen repair."""

from __future__ import annotations

import html
import io
import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from report_samples import (
    changed_table,
    full,
    gained_table,
    make_summary,
    two_domains,
    variant,
    with_evidence,
    with_intervals,
    with_relations,
    with_tasks,
)
from rich.console import Console

from sftbench.analysis.summary import (
    RepairCandidate,
    RepairChoice,
    Summary,
    TaskResult,
    VariantResult,
)
from sftbench.checkpoints.pair import Pair
from sftbench.checkpoints.rules import BY_NORM, CRITERIA, parse_rule
from sftbench.compare.check_request import CheckRequest
from sftbench.compare.next_steps import compare_command, next_steps
from sftbench.compare.repair import default_candidates
from sftbench.compare.request import Request
from sftbench.compare.result import Compared
from sftbench.compare.verdict import sentences
from sftbench.facts.prompts import PROMPTS
from sftbench.report import charts, notes, restores, rule_names, words
from sftbench.report.html import render
from sftbench.report.terminal import show

pytestmark = pytest.mark.unit


def plain(text: str) -> str:
    return text.replace(words.NARROW, " ").replace(words.FIXED, " ").replace(words.MINUS, "-")


def seen(page: str) -> str:
    """Return the text of a page without its scripts and tags."""
    bare = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return plain(html.unescape(re.sub(r"\s+", " ", re.sub(r"</?span[^>]*>", "", bare))))


def page_of(summary: Summary) -> str:
    return render(summary, changed_table(1), gained_table(1))


def restored(rule: str, kept: float, removed: float, **record: Any) -> VariantResult:
    """Return a restored variant as a comparison records it."""
    parsed = parse_rule(rule)
    one = two_domains(parsed.name, 0.45, kept, 0.0)
    found = {
        "rule": parsed.text, "l2_removed": removed, "share": 0.125,
        "change_share_without_zero_base": 0.91, "null": {"change": 0.875}, **record,
    }  # fmt: skip
    papers = float(parsed.percent) if parsed.is_papers and parsed.percent else None
    return one.model_copy(update={"percent": papers, "restore": found})


def summary_of(*those: VariantResult, **more: Any) -> Summary:
    return make_summary(*full().variants[:2], *those, **more)


def mixed(**more: Any) -> Summary:
    """Return the paper's way beside two other criteria."""
    return summary_of(
        restored("relative,5%", 0.74, 0.3),
        restored("relative,20%norm", 0.75, 0.2),
        restored("relative,40%norm", 0.8, 0.4),
        restored("absolute,20%norm", 0.76, 0.2),
        restored("interpolation,40%", 0.78, 0.4, null=None),
        **more,
    )


def choice(chosen: str | None = "relative,20%norm", **more: Any) -> RepairChoice:
    return RepairChoice(
        facts=60,
        candidates=(
            RepairCandidate(rule="", right=40, removed=0.0, **more),
            RepairCandidate(rule="relative,20%norm", right=48, removed=0.2, **more),
            RepairCandidate(
                rule="interpolation,40%norm",
                right=50,
                removed=0.4,
                worse_in_task=bool(more),
                **more,
            ),
        ),
        best="interpolation,40%norm",
        chosen=chosen,
    )


def repaired(rule: str = "relative,20%norm") -> Summary:
    return with_intervals(summary_of(restored(rule, 0.75, 0.2), repair=choice(rule)))


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        ("relative,5%", "restored 5 %"),
        ("relative,12.5%", "restored 12.5 %"),
        ("relative,5%,bf16", "restored 5 % (bf16)"),
        ("relative,5%changed", "relative 5 % changed"),
        ("relative,20%norm", "relative 20 % norm"),
        ("absolute,20%norm", "absolute 20 % norm"),
        ("absolute,5%", "absolute 5 %"),
        ("interpolation,40%norm", "interpolation 40 %"),
        ("spectral", "spectral"),
        ("spectral,20%norm", "spectral 20 %"),
        ("noise,10%norm", "noise 10 %"),
        ("dare,90%", "dare 90 %"),
        ("relative,5%,bf16,mlp", "relative 5 % (mlp, bf16)"),
        ("relative,5%,per-tensor", "relative 5 % (per-tensor)"),
        ("random,10%changed,draw=2", "random 10 % changed (draw 2)"),
        (
            "absolute,20%norm,bf16,per-tensor,layers=0-3",
            "absolute 20 % norm (layers=0-3, per-tensor, bf16)",
        ),
        ("random,5%,match=a{1,2}|b,draw=3", "random 5 % (match=a{1,2}|b, draw 3)"),
    ],
)
def test_a_restore_is_named_by_its_rule(rule: str, name: str) -> None:
    assert plain(words.label(restored(rule, 0.7, 0.2))) == name


def test_what_is_no_restore_keeps_its_name() -> None:
    assert [words.label(one) for one in full().variants[:2]] == ["base", "tuned"]
    named = variant("tuned+restore(relative,5%)").model_copy(update={"name": "mine"})
    assert words.label(named) == "mine"
    old = named.model_copy(update={"percent": 5.0, "restore": {"count": 3}})
    assert plain(words.label(old)) == "restored 5 %"
    assert rule_names.parse("no rule!") is None


def test_the_criteria_that_imply_a_norm_are_those_of_the_rules() -> None:
    assert set(rule_names.NORM_IMPLIED) == set(BY_NORM)
    assert set(rule_names.CONTROLS) <= set(CRITERIA)


def test_the_papers_way_alone_is_told_from_a_mixture() -> None:
    two = (restored("relative,5%,bf16", 0.7, 0.2), restored("relative,20%,bf16", 0.7, 0.2))
    assert rule_names.papers_alone(full())
    assert rule_names.papers_alone(summary_of())
    assert rule_names.papers_alone(summary_of(*two))
    assert not rule_names.papers_alone(summary_of(*two, restored("relative,5%", 0.7, 0.2)))
    assert not rule_names.papers_alone(mixed())
    said = plain(words.restore_sentence(summary_of(*two)))
    assert said.startswith("Restoring the 5 / 20 % most changed parameters: retention (mean over ")


def test_the_headline_of_a_mixture_groups_sizes_and_picks_none() -> None:
    assert plain(words.restore_sentence(mixed())) == (
        "Retention (mean over levels), restored 5 %: 74 % in-domain, 76 % out-of-domain; "
        "relative 20 / 40 % norm: 75 / 80 % in-domain, 77 / 82 % out-of-domain; "
        "absolute 20 % norm: 76 % in-domain, 78 % out-of-domain; "
        "interpolation 40 %: 78 % in-domain, 80 % out-of-domain."
    )


def test_the_headline_of_many_restores_says_their_range() -> None:
    many = [restored(f"random,{size}%norm", 0.6 + size / 100, 0.2) for size in range(1, 12)]
    said = plain(words.restore_sentence(summary_of(*many)))
    assert said.startswith("11 restores: retention (mean over levels) 61 % to 71 % in-domain, ")
    assert [one.name for one in words.at_a_glance(summary_of(*many))] == ["base", "tuned"]
    few = plain(words.restore_sentence(summary_of(*many[: words.MOST_NAMED])))
    assert few.startswith("Retention (mean over levels), random 1 / 2 / 3")


def test_the_headline_says_which_restore_was_chosen_and_where_none_was() -> None:
    said = plain(words.restore_sentence(repaired()))
    assert said == (
        "Retention (mean over levels), relative 20 % norm (chosen on facts that are not scored): "
        "75 % [65, 85] in-domain, 77 % [67, 87] out-of-domain."
    )
    none = (
        "No repair is recommended: on 60 validation facts, which are not scored, none of 2 "
        "restores is told from leaving the model as it is."
    )
    assert words.restore_sentence(summary_of(repair=choice(None))) == none
    beside = summary_of(restored("absolute,20%norm", 0.7, 0.2), repair=choice(None))
    assert words.restore_sentence(beside).endswith(f"out-of-domain. {none}")


def test_the_verdict_says_what_each_restore_of_a_mixture_brings_back() -> None:
    each = "brings back 90 and keeps 66 of 112 gained"
    assert plain(sentences(mixed())[-1]) == (
        f"Of 196 lost facts, setting back 5 % of the parameters {each}; "
        f"relative 20 % norm {each}; relative 40 % norm {each}; absolute 20 % norm {each}; "
        f"interpolation 40 % {each}."
    )
    assert plain(sentences(full())[-1]).startswith(
        f"Of 196 lost facts, setting back 5 % of the parameters {each}; 20 % {each}; 60 % {each}."
    )


def test_the_verdict_of_a_repair_is_one_honest_sentence() -> None:
    said = [plain(one) for one in sentences(repaired())]
    assert len(said) == 3
    assert said[-1] == (
        "The repair chosen from 2 restores on 60 facts that are not scored, relative 20 % norm, "
        "brings back 90 of 196 lost facts and keeps 66 of 112 gained; retention is 75 % [65, 85] "
        "in-domain (+4 points [-16, +24] against tuned, not told from 0) and 77 % [67, 87] "
        "out-of-domain (+4 points [-16, +24] against tuned, not told from 0)."
    )


def test_a_repair_whose_gain_is_told_from_0_is_not_doubted() -> None:
    summary = with_intervals(summary_of(restored("absolute,20%norm", 0.99, 0.2)))
    summary = summary.model_copy(update={"repair": choice("absolute,20%norm")})
    said = plain(sentences(summary)[-1])
    assert "(+28 points [+8, +48] against tuned)" in said
    assert "not told from 0" not in said


def test_the_verdict_says_where_no_repair_is_recommended() -> None:
    said = sentences(summary_of(repair=choice(None)))
    assert said[-1].startswith("No repair is recommended: on 60 validation facts")
    assert not any("No restore was tried" in one for one in said)


def test_restores_beside_the_repair_have_a_sentence_of_their_own() -> None:
    those = (restored("absolute,20%norm", 0.7, 0.2), restored("relative,20%norm", 0.75, 0.2))
    *_, chosen, others = map(plain, sentences(summary_of(*those, repair=choice())))
    assert "relative 20 % norm, brings back 90 of 196 lost facts" in chosen
    assert others.startswith("Of 196 lost facts, absolute 20 % norm brings back 90 ")
    assert "relative" not in others


def test_criteria_are_set_against_their_removed_norm() -> None:
    points = charts.criteria_curve(mixed(), "in")
    assert [(one.series, plain(one.name), one.removed) for one in points] == [
        ("", "tuned", 0.0),
        ("relative", "restored 5 %", pytest.approx(30)),
        ("relative", "relative 20 % norm", pytest.approx(20)),
        ("relative", "relative 40 % norm", pytest.approx(40)),
        ("absolute", "absolute 20 % norm", pytest.approx(20)),
        ("interpolation", "interpolation 40 %", pytest.approx(40)),
    ]
    assert [one.retention for one in points] == pytest.approx([71, 74, 75, 80, 76, 78])
    assert [one.preserved for one in points] == pytest.approx([100, *[3300 / 56] * 5])
    limited = charts.criteria_curve(with_intervals(mixed()), "in")
    assert (limited[1].low, limited[1].high) == (pytest.approx(64), pytest.approx(84))


def test_options_make_a_series_of_their_own_and_unknown_norms_none() -> None:
    summary = summary_of(
        restored("relative,20%norm,mlp", 0.7, 0.2),
        restored("random,20%norm,draw=2", 0.7, 0.2),
        restored("absolute,20%norm", 0.7, 0.2, l2_removed=None),
    )
    series = [one.series for one in charts.criteria_curve(summary, "out")]
    assert series == ["", "relative (mlp)", "random (draw 2)"]


def test_the_chart_of_the_papers_way_is_drawn_for_it_alone() -> None:
    alone, several = charts.chart_data(full()), charts.chart_data(mixed())
    assert (list(alone["restore"]), list(alone["criteria"])) == (["in", "out"], [])
    assert (list(several["restore"]), list(several["criteria"])) == ([], ["in", "out"])
    json.dumps(several, allow_nan=False)
    page = page_of(mixed())
    assert page.count('data-chart="criteria"') == 2
    assert 'data-chart="restore"' not in page
    assert 'data-chart="criteria"' not in page_of(full())


def test_a_task_has_a_line_for_each_criterion() -> None:
    points = charts.task_points(with_tasks(mixed()), "gsm8k", "exact_match")
    assert [(one.series, one.restored) for one in points] == [
        ("", None), ("", None), ("relative", 5.0), ("relative", None), ("relative", None),
    ]  # fmt: skip
    alone = charts.task_points(with_tasks(full()), "gsm8k", "exact_match")
    assert {one.series for one in alone} == {"", "relative"}


def test_the_table_says_what_a_restore_takes_of_the_update() -> None:
    assert restores.taken(restored("absolute,20%norm", 0.7, 0.2)) == (0.2, 0.125, 0.91, 0.875)
    # What moves every scalar singles none out.
    moved = restored("interpolation,20%", 0.7, 0.2, change_share_without_zero_base=0.0, null=None)
    assert restores.taken(moved) == (0.2, 0.125, None, None)
    page = seen(page_of(mixed()))
    assert "removed<small>norm, %</small>" in page
    assert "91.0 <small>(87.5)</small>" in page
    assert "removed<small>" not in seen(page_of(full()))  # of an earlier version
    papers = summary_of(restored("relative,5%", 0.7, 0.3), restored("relative,20%", 0.7, 0.6))
    assert "removed<small>norm, %</small>" in seen(page_of(papers))


def test_a_rule_for_a_region_is_said_to_count_the_norm_there() -> None:
    said = "in the region that a rule is for"
    assert said not in seen(page_of(mixed()))
    assert said in seen(page_of(summary_of(restored("absolute,20%norm,mlp", 0.7, 0.2))))


def test_the_page_says_what_was_tried_what_was_chosen_and_what_it_does() -> None:
    page = page_of(repaired())
    text = seen(page)
    assert '<a href="#repair">Choosing the restore</a>' in page
    assert "Of 2 restores tried on 60 validation facts, which are not scored, " in text
    assert "Tried on 60 validation facts, none of them scored" in text
    assert "<code>interpolation,40%norm</code>" in page
    assert re.search(r'relative 20 % norm</th><td class="num strong">48</td><td>chosen</td>', text)
    assert re.search(r'interpolation 40 %</th><td class="num strong">50</td><td>most right', text)
    assert re.search(r'tuned</th><td class="num">40</td><td></td><td class="num">0\.0</td>', text)
    assert "The repair chosen from 2 restores on 60 facts that are not scored" in text
    assert "worse<small>in task" not in text
    assert "60 other facts chose the restore" in text
    assert "Validation facts" in dict(notes.glossary(repaired()))


def test_a_page_without_a_recommended_repair_says_so() -> None:
    page = page_of(summary_of(repair=choice(None)))
    assert "no repair is recommended" in page
    assert re.search(r'tuned</th><td class="num strong">40</td><td>chosen</td>', seen(page))
    assert 'id="restore"' not in page


def test_the_validation_task_is_shown_with_what_did_worse_in_it() -> None:
    task = TaskResult(task="gsm8k", metric="acc", value=0.5, stderr=0.02, n=9)
    page = seen(page_of(summary_of(repair=choice(None, tasks=(task,)))))
    assert "gsm8k<small>acc</small>" in page
    assert page.count("0.500<small> ±0.020</small></td><td>no</td>") == 2
    assert page.count("0.500<small> ±0.020</small></td><td>yes</td>") == 1


PICKED, CONTROL = "picked on the test set", "Without controls"


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        (full(), (True, True)),
        (summary_of(), (False, False)),
        (mixed(), (True, False)),
        (repaired(), (False, True)),
        (repaired("interpolation,40%norm"), (False, False)),
        (summary_of(restored("relative,20%norm", 0.7, 0.2)), (True, True)),
        (
            summary_of(
                restored("relative,20%norm", 0.7, 0.2),
                restored("random,20%norm", 0.7, 0.2),
                repair=choice(),
            ),
            (True, False),
        ),
    ],
    ids=["paper", "none", "mixed", "chosen", "chosen control", "single", "chosen and more"],
)
def test_caveats_are_those_that_the_restores_call_for(
    summary: Summary, expected: tuple[bool, bool]
) -> None:
    found = notes.caveats(summary)
    assert tuple(any(text in one for one in found) for text in (PICKED, CONTROL)) == expected


def test_caveats_name_the_ranking_only_where_there_is_one() -> None:
    ties = "\n".join(notes.caveats(summary_of(restored("ties,80%", 0.7, 0.2))))
    assert "Ranking by relative change" not in ties
    assert "does not show that this way of restoring caused it" in ties
    assert "A restore that is picked" in ties
    papers = "\n".join(notes.caveats(full()))
    assert "A restore percentage that is picked" in papers
    assert "that this ranking caused it" in papers


def test_terms_are_those_of_the_restores() -> None:
    paper, several = dict(notes.glossary(full())), dict(notes.glossary(mixed()))
    assert paper["Restoring"].startswith("Setting the parameters with the largest relative change")
    assert "Removed norm" not in paper
    assert {"Removed norm", "Null model"} <= set(several)
    assert "Validation facts" not in several


def test_the_terminal_tables_fit_80_columns_whatever_the_rules() -> None:
    summary = summary_of(
        restored("lowest-relative,12.5%changed,bf16,per-tensor,layers=0-3+28-31", 0.7, 0.2),
        restored("interpolation,40%,mlp", 0.7, 0.2),
        restored("relative,20%norm", 0.7, 0.2),
    )
    file = io.StringIO()
    show(with_evidence(with_relations(summary)), Console(file=file, width=80))
    text = plain(file.getvalue())
    assert max(map(len, text.splitlines())) <= 80
    tables = text[text.index("Retention (mean over levels), %") :]
    assert re.search(r"relative 20 % norm +70\.0 \[60, 80\] +72\.0 \[62, 82\]", tables)
    assert re.search(r"interpolation 40 % +70\.0 .*\n \(mlp\)", tables)
    assert re.search(
        r"lowest-relative +70\.0 .*\n 12\.5 % changed *\n \(layers=0-3\+28-31…", tables
    )
    assert re.search(r"interpolation +45\.0 .*\n 40 % ", tables)


def test_a_hostile_region_is_escaped() -> None:
    rule = "absolute,5%,match=<script>alert(1)</script>"
    page = page_of(with_evidence(with_relations(summary_of(restored(rule, 0.7, 0.2)))))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def checked(summary: Summary, **changed: Any) -> dict[str, str]:
    """Return the next steps of a check that ended like this, by what they are for."""
    wanted = CheckRequest(
        models=Pair(Path("b"), Path("t"), "tiny", "mine", ()),
        out=Path("out"),
        budget=60.0,
        **changed,
    )
    compared = Compared(summary, changed_table(0), gained_table(0))
    return dict(next_steps(wanted, request_of(wanted), compared))


def request_of(wanted: CheckRequest) -> Request:
    named: Any = cast("Any", type("Named", (), {"name": "geography", "path": Path("card")}))
    return Request(
        base=Path("b"), tuned=Path("t"), out=wanted.out / "compare", facts=named, card=named,
        prompt=PROMPTS["fewshot"], restored=wanted.restored, base_name="tiny", tuned_name="mine",
    )  # fmt: skip


def test_after_a_repair_the_command_writes_what_was_chosen() -> None:
    steps = checked(repaired(), candidates=default_candidates())
    assert steps["the chosen restore"] == (
        "sftbench restore apply --base tiny --tuned mine --rule relative,20%norm "
        "--output out-restored"
    )
    assert not {"a restored model", "the restored models"} & set(steps)
    assert " --auto" in steps["what it was tuned for"]
    assert "--rule" not in steps["what it was tuned for"]


def test_where_no_repair_is_recommended_there_is_no_command_for_one() -> None:
    steps = checked(summary_of(repair=choice(None)), candidates=default_candidates())
    assert not any("restore apply" in command for command in steps.values())


def test_without_a_choice_every_restore_that_healed_is_offered() -> None:
    rules = tuple(map(parse_rule, ("absolute,20%norm", "interpolation,40%,match=a b|c")))
    summary = summary_of(*(restored(rule.text, 0.7, 0.2) for rule in rules))
    steps = checked(summary, restored=rules)
    flags = "--rule absolute,20%norm --rule 'interpolation,40%norm,match=ab|c'"
    assert f"--tuned mine {flags} --output out-restored" in steps["the restored models"]
    assert flags in steps["what it was tuned for"]
    assert "--auto" not in steps["what it was tuned for"]


def test_a_comparison_that_chose_among_others_names_them() -> None:
    others = (parse_rule("absolute,20%norm"), parse_rule("spectral"))
    wanted = CheckRequest(
        models=Pair(Path("b"), Path("t"), "tiny", "mine", ()), out=Path("out"), budget=60.0,
        candidates=others,
    )  # fmt: skip
    command = compare_command(wanted, request_of(wanted))
    assert command.endswith("--auto --rule absolute,20%norm --rule spectral")
    usual = CheckRequest(**{**vars(wanted), "candidates": default_candidates()})
    assert compare_command(usual, request_of(usual)).endswith("--auto")
