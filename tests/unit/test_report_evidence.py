"""What the report says of chance: intervals, paired differences, noise; and files without them."""

from __future__ import annotations

import html
import io
import json
import re
from typing import Any

import pytest
from report_samples import (
    changed_table,
    domain,
    forgetting,
    full,
    gained_table,
    make_summary,
    two_domains,
    variant,
    with_evidence,
    with_intervals,
    with_relations,
)
from rich.console import Console

from sftbench.analysis.evidence import NoiseResult, RatioRecord
from sftbench.analysis.intervals import Interval
from sftbench.analysis.summary import Summary
from sftbench.report import charts, evidence, notes, words
from sftbench.report.html import render
from sftbench.report.terminal import show

pytestmark = pytest.mark.unit

NO_BOUND = RatioRecord(value=2.9, low=1.4, high=None)


def plain(text: str) -> str:
    return text.replace(words.NARROW, " ").replace(words.FIXED, " ").replace(words.MINUS, "-")


def page_of(summary: Summary) -> str:
    return render(summary, changed_table(1), gained_table(1))


def _gap(tag: re.Match[str]) -> str:
    return "" if "span" in tag[0] else " "


def seen(page: str) -> str:
    """Return the text of a page without its scripts and tags."""
    bare = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return plain(html.unescape(re.sub(r"\s+", " ", re.sub(r"</?span[^>]*>|<[^>]+>", _gap, bare))))


def with_noise(summary: Summary, *domains: Any) -> Summary:
    return with_intervals(summary).model_copy(update={"noise": NoiseResult(forgetting=domains)})


@pytest.mark.parametrize(
    ("fraction", "decimals", "written"),
    [
        (0.0123, 1, "+1.2"), (-0.06, 0, "-6"), (0.0, 1, "0.0"), (-0.0, 0, "0"),
        (0.003, 0, "+0.3"), (-0.0004, 1, "-0.04"), (0.000001, 1, "0.0"), (-1.0, 1, "-100.0"),
    ],
)  # fmt: skip
def test_differences_are_signed_and_what_rounds_to_zero_shows_its_side(
    fraction: float, decimals: int, written: str
) -> None:
    assert plain(words.signed(fraction, decimals)) == written


def test_brackets_are_percentages_that_no_line_breaks() -> None:
    assert words.bracket(0.674, 0.92) == f"[67,{words.FIXED}92]"
    assert plain(words.bracket(0.0, 1.0, 1)) == "[0.0, 100.0]"
    assert plain(words.share(0.83, Interval(0.67, 0.92))) == "83 % [67, 92]"
    assert plain(words.share(None, None)) == words.MISSING
    assert plain(words.difference(0.01, Interval(-0.06, 0.08))) == "+1 point [-6, +8]"
    assert plain(words.difference(-0.1, Interval(-0.2, 0.0))) == "-10 points [-20, 0]"
    assert plain(words.times_bracket(1.4, None)) == "[1.4, ∞]"


@pytest.mark.parametrize(
    ("p", "written"), [(0.0004, "< 0.001"), (0.0123, "0.012"), (0.25, "0.25"), (1.0, "1.00")]
)
def test_p_values_have_the_decimals_of_their_size(p: float, written: str) -> None:
    assert plain(words.p_value(p)) == written


def test_the_sentences_hold_their_intervals() -> None:
    summary = with_evidence(full())
    assert plain(words.headline(summary)) == (
        "The fine-tune kept 100 of the 200 facts that the base knew in-domain (50 % [40, 60]; mean "
        "over levels 71 % [61, 81]) and 100 of 200 out-of-domain (50 % [40, 60]; 73 % [63, 83]). "
        "Restoring the 5 / 20 / 60 % most changed parameters: retention (mean over levels) "
        "75 % [65, 85] / 80 % [70, 90] / 0 % [0, 10] in-domain, 77 % [67, 87] / 82 % [72, 92] / "
        "2 % [0, 12] out-of-domain."
    )
    assert plain(words.accuracy_sentence(summary)) == (
        "Accuracy, as the mean over mastery levels, went from 50 % to 40 % in-domain (-10 points "
        "[-17, -3]) and 50 % to 40 % out-of-domain (-10 points [-17, -3]): 196 facts lost, 112 "
        "gained."
    )


def test_noise_is_held_against_the_fine_tune_in_each_domain() -> None:
    assert plain(words.noise_sentence(with_evidence(full()))) == (
        "In-domain the fine-tune forgot 100 of the 200 facts that the base knew (29 % [19, 39]), "
        "2.9 times [1.4, 9.0] what random changes of the same size forget (10 % [0, 22], 3 draws); "
        "out-of-domain 100 of 200 (27 % [17, 37]), which noise of its size may do as well: such "
        "changes forget 20 % [8, 32] (3 draws; difference +7 points [-5, +19])."
    )
    assert words.noise_sentence(full()) == ""
    assert words.noise_sentence(with_noise(full())) == ""


@pytest.mark.parametrize(
    ("tuned", "noise", "times", "said"),
    [
        (0.3, 0.1, NO_BOUND, "at least 1.4 times what random"),
        (0.3, 0.0, RatioRecord(value=float("inf"), low=2.1, high=float("inf")), "at least 2.1 tim"),
        (0.3, 0.1, RatioRecord(value=3.0, low=0.9, high=None), "more than random changes"),
        (0.1, 0.5, RatioRecord(value=0.2, low=0.1, high=None), "less than random changes"),
        (0.1, 0.5, RatioRecord(value=0.2, low=0.1, high=0.6), "0.2 times [0.1, 0.6] what random"),
        (0.0, 0.0, RatioRecord(value=None, low=0.0, high=None), "which noise of its size may do"),
    ],
)
def test_noise_without_a_bound_is_said_as_far_as_it_is_known(
    tuned: float, noise: float, times: RatioRecord, said: str
) -> None:
    summary = with_noise(full(), forgetting("in", tuned, noise, times))
    assert said in plain(words.noise_sentence(summary))
    assert "Is the change real?" in page_of(summary)


def test_the_mean_over_levels_is_held_against_noise_as_well() -> None:
    summary = with_evidence(full())
    assert plain(evidence.mean_sentence(summary)) == (
        "As the mean over levels it forgot 29 % [19, 39] in-domain against 10 % [0, 22] by noise "
        "(+19 points [+7, +31]) and 27 % [17, 37] out-of-domain against 20 % [8, 32] by noise "
        "(+7 points [-5, +19])."
    )
    assert plain(evidence.mean_sentence(summary)) in seen(page_of(summary))
    assert evidence.mean_sentence(full()) == ""


def test_the_forgotten_are_each_variant_then_noise_then_its_draws() -> None:
    rows = evidence.forgotten(with_evidence(full()), "in")
    assert [plain(row.name) for row in rows] == [
        "tuned", "restored 5 %", "restored 20 %", "restored 60 %",
        "noise of its size (mean of 3)", "draw 1", "draw 2", "draw 3",
    ]  # fmt: skip
    assert rows[0].value == pytest.approx(0.29)
    assert rows[0].bounds == pytest.approx((0.19, 0.39))
    assert (rows[0].lost, rows[0].known, rows[0].clusters) == (100, 200, 150)
    assert [row.lost for row in rows[4:]] == [None, 16, 20, 24]
    assert [row.bounds for row in rows[5:]] == [None] * 3
    assert evidence.forgotten(full(), "in") == evidence.forgotten(with_evidence(full()), "no") == []


def test_a_draw_has_the_interval_of_its_own_variant() -> None:
    perturbed = with_intervals(make_summary(*[two_domains("base+noise(1)", 0.4, 0.9)] * 2))
    summary = with_evidence(full()).model_copy(update={"perturbed": perturbed.variants[:1]})
    first, second = evidence.forgotten(summary, "in")[-3:-1]
    assert first.bounds == pytest.approx((0.0, 0.2))
    assert second.bounds is None


def test_the_chart_of_what_was_forgotten_is_in_percent_and_strict_json() -> None:
    bars = charts.forgotten_bars(with_evidence(full()), "in")
    assert [bar.kind for bar in bars] == ["tuned", *["restored"] * 3, "noise"]
    assert bars[0][2:] == (pytest.approx(29), pytest.approx(19), pytest.approx(39), ())
    assert bars[-1].draws == pytest.approx((8, 10, 12))
    json.dumps(charts.chart_data(with_evidence(full())), allow_nan=False)


def test_the_curve_and_the_score_have_their_bounds() -> None:
    summary = with_evidence(full())
    assert charts.restore_curve(summary, "in")[1][-2:] == pytest.approx((65, 85))
    assert charts.restore_curve(full(), "in")[1][-2:] == (None, None)
    assert charts.chart_data(summary)["scores"]["in"] == pytest.approx(
        {"value": 71, "low": 61, "high": 81}
    )


def test_bounds_of_a_level_are_those_of_the_record() -> None:
    result = full().tuned.domains[0]
    levels = [one.model_copy(update={"low": 0.25, "high": 0.75}) for one in result.retention.levels]
    retention = result.retention.model_copy(update={"levels": tuple(levels)})
    rows = charts.level_kept(result.model_copy(update={"retention": retention}))
    assert rows[0][-2:] == (25.0, 75.0)


def test_the_differences_are_all_facts_the_levels_the_mean_and_the_paper() -> None:
    rows = evidence.differences(with_evidence(full()), "in")
    assert [row.name for row in rows] == [
        "all facts", *(f"level {level}" for level in range(5)),
        "mean over levels", "the paper's plain way",
    ]  # fmt: skip
    every, level, mean, paper = rows[0], rows[1], rows[-2], rows[-1]
    assert (every.n, every.lost, every.gained, every.p_holm) == (500, 98, 56, None)
    assert (every.before, every.after) == (118 / 500, 76 / 500)
    assert (level.p, level.p_holm, level.smallest) == (0.0123, 0.0615, None)
    assert mean.value == paper.value == pytest.approx(-0.1)
    assert mean.bounds is not None
    assert paper.bounds is None
    assert evidence.differences(full(), "in") == []
    assert evidence.differences(with_evidence(full()), "no") == []


def test_the_page_shows_every_difference_with_interval_n_and_unit() -> None:
    said = seen(page_of(with_evidence(full())))
    assert "level 0 100 20.0 24.0 0 4 +4.0 [-2.0, +10.0] 0.012 0.061 < 0.001 none" in said
    assert "mean over levels 500 50.0 40.0 – – -10.0 [-17.0, -3.0] – – – 9.0" in said
    assert "the paper's plain way 500 50.0 40.0 – – -10.0 – – – –" in said
    assert "restored 5 % in-domain +4.0 [-16.0, +24.0] 200 +5.0 [-2.0, +12.0] 500" in said
    assert "draw 2 10.0 20 of 200 150" in said
    assert "Tuned minus noise: +19.0 [+7.0, +31.0] points" in said
    assert "As bfloat16 holds them, their norm over all tensors is 99.9 to 100.0 % of the" in said
    assert "Tuned over noise: 1.4 times [0.7, ∞]" in said
    assert "0 of 209 answers flipped between right and wrong" in said
    assert "level 4 100.5 96.0 89.0 -7.0 [-8.0, +1.2]" in said
    assert "125 of 500 facts (25 % [21, 29]) stand in another level" in said
    assert "tuned 71.0 [61, 81] 40.0 [32, 48] 98 56" in said


def test_flips_are_counted_with_their_interval() -> None:
    summary = with_evidence(full())
    assert summary.noise is not None
    assert summary.noise.flips is not None
    assert plain(evidence.flips_sentence(summary)) == (
        "0 of 209 answers flipped between right and wrong when the base was asked again in batches "
        "of 7 (at most 1.8 %); 2 differed in wording."
    )
    some = summary.noise.flips.model_copy(update={"changed": 3, "share": 3 / 209, "worded": 0})
    noise = summary.noise.model_copy(update={"flips": some})
    said = plain(evidence.flips_sentence(summary.model_copy(update={"noise": noise})))
    assert "3 of 209 answers" in said
    assert said.endswith("(1.4 % [0.0, 1.8]); none differed in wording.")
    assert evidence.flips_sentence(full()) == ""


def test_mastery_by_chance_leaves_out_all_facts_whose_change_is_zero_by_design() -> None:
    rows = evidence.chance(with_evidence(full()))
    assert [(row.name, row.n) for row in rows] == [(f"level {i}", "100.5") for i in range(5)]
    assert evidence.chance(full()) == []
    assert evidence.chance_sentence(full()) == ""


def test_without_noise_the_page_says_how_to_ask_for_it() -> None:
    summary = with_intervals(full()).model_copy(update={"noise": NoiseResult()})
    page = page_of(summary)
    assert "<code>sftbench compare --noise 3</code> adds it" in page
    assert 'data-chart="forgetting"' not in page
    assert "The base asked again" not in page
    assert "From base to tuned" in page


def test_a_file_of_an_earlier_version_has_no_such_part() -> None:
    page = page_of(full())
    assert "Is the change real?" not in page
    assert words.BRACKETS not in page
    assert "band its interval" not in page
    assert 'class="bracket"' not in page
    assert "sftbench rescore adds them" in notes.caveats(full())[-1]


def test_the_caveats_say_what_intervals_cover_and_when_draws_are_few() -> None:
    summary = with_evidence(full())
    assert "seed of the fine-tune" in notes.caveats(summary)[-1]
    assert not any("random change" in one for one in notes.caveats(summary))
    found = forgetting("in", 0.3, 0.1, NO_BOUND)
    noise = found.noise.model_copy(update={"runs": (0.1,)})
    alike = found.alike.model_copy(update={"noise": noise})
    once = found.model_copy(update={"noise": noise, "alike": alike, "lost_by_noise": (20,)})
    few = with_noise(full(), once)
    assert any("With 1 random change of" in one for one in notes.caveats(few))
    assert evidence.forgotten(few, "in")[-2].name == "noise of its size (1 draw)"
    assert "times" not in words.noise_sentence(few)
    assert "points" not in evidence.mean_sentence(few)
    assert "Tuned over noise" not in seen(page_of(few))
    assert "where 10 % [0, 22] is what one random change" in plain(words.noise_sentence(few))


def test_a_domain_without_known_facts_has_differences_and_no_retention() -> None:
    bare = [
        variant(
            name,
            domain("in", 0.1, repair=percent is not None),
            domain("out", 0.5, 0.9, repair=percent is not None),
            percent=percent,
        )
        for name, percent in (("base", None), ("tuned", None), ("r", 5.0))
    ]
    summary = with_noise(make_summary(*bare), forgetting("out", 0.3, 0.1, NO_BOUND))
    said = seen(page_of(summary))
    assert "restored 5 % in-domain – – 0.0 [-7.0, +7.0] 500" in said
    assert plain(words.noise_sentence(summary)).startswith("Out-of-domain the fine-tune forgot")
    assert charts.chart_data(summary)["scores"]["in"] is None
    assert charts.chart_data(summary)["forgetting"]["in"] == []
    assert "Accuracy in-domain, tuned minus base" in shown(summary)


def test_names_of_variants_are_escaped_in_the_new_part() -> None:
    hostile = "<script>alert('x')</script>"
    variants = [
        *full().variants[:2],
        two_domains(hostile, 0.45, 0.75).model_copy(update={"name": hostile}),
    ]
    page = page_of(with_evidence(make_summary(*variants)))
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") >= 5


def test_the_terminal_shows_differences_noise_and_the_paper_in_80_columns() -> None:
    text = shown(with_evidence(with_relations(full())))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert re.search(r"tuned +71\.0 \[61, 81\] +73\.0 \[63, 83\] +98 +98 +56 +56", text)
    assert re.search(r"base +98\.0 +100\.0 +", text)
    assert re.search(r"all facts +500 +-8\.4 \[-14, -2\] +98 +56 +0\.012 +– +< 0\.001 +8\.5", text)
    assert re.search(r"level 4 +100 +-4\.0 \[-10, \+2\] +4 +0 +0\.012 +0\.061 +< 0\.001", text)
    assert re.search(r"mean +500 +-10\.0 \[-17, -3\] +– +– +– +– +– +9\.0", text)
    assert re.search(r"the paper +500 +-10\.0 +–", text)
    assert re.search(r"tuned +(40\.0 +){6}\n +(\[20, 100\] +){5}\[32, 48\]", text)
    assert "In-domain the fine-tune forgot 100 of the 200" in text
    assert "0 of 209 answers flipped" in text
    flat = " ".join(text.split())
    assert "Brackets hold 95 % intervals." in flat
    assert "the paper (Ye et al. 2025) gives it without an interval" in flat


def test_the_terminal_shows_files_of_an_earlier_version() -> None:
    text = shown(full())
    assert "Brackets hold" not in text
    assert "percentage points" not in text


def shown(summary: Summary) -> str:
    file = io.StringIO()
    show(summary, Console(file=file, width=80))
    return plain(file.getvalue())
