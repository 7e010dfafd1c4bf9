"""What page and terminal say of kinds of loss, levels before and after, and calibration."""

from __future__ import annotations

import html
import io
import json
import re
from importlib import resources

import pytest
from loss_samples import AFTER, BEFORE, kinds, with_loss
from report_samples import (
    changed_table,
    full,
    gained_table,
    make_summary,
    two_domains,
    with_evidence,
)
from rich.console import Console

from sftbench.analysis.intervals import wilson
from sftbench.analysis.loss import FormCheck
from sftbench.analysis.summary import Summary
from sftbench.report import charts, loss, notes
from sftbench.report.html import SCRIPTS, render
from sftbench.report.loss_tables import loss_tables
from sftbench.report.loss_words import loss_sentence, more_tries_sentence
from sftbench.report.terminal import show
from sftbench.report.words import FIXED, MINUS, NARROW

pytestmark = pytest.mark.unit


def plain(text: str) -> str:
    return text.replace(NARROW, " ").replace(FIXED, " ").replace(MINUS, "-")


def page_of(summary: Summary) -> str:
    return render(summary, changed_table(1), gained_table(1))


def seen(page: str) -> str:
    """Return the text of a page without its scripts and tags."""
    bare = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    spaced = re.sub(r"<[^>]+>", " ", re.sub(r"</?span[^>]*>", "", bare))
    return plain(html.unescape(re.sub(r"\s+", " ", spaced)))


def shown(summary: Summary) -> str:
    file = io.StringIO()
    show(summary, Console(file=file, width=80))
    return plain(file.getvalue())


def of_domain(rows: list[tuple[object, ...]]) -> list[str]:
    return [plain(str(row[0])) for row in rows]


@pytest.fixture(scope="module")
def summary() -> Summary:
    return with_loss(with_evidence(full()))


def test_the_sentence_names_the_kinds_and_how_often_they_are_mistaken(summary: Summary) -> None:
    assert summary.loss is not None
    assert loss_sentence(summary.loss) == (
        "Of 60 lost facts in-domain, 21 are a matter of form, 14 of access, 20 are credibly less "
        "known; 5 cannot be told. Of 40 lost facts out-of-domain, 12 are a matter of form, 19 of "
        "access, 8 are credibly less known; 1 cannot be told. The base measured against itself "
        "would be called less known in 1 of 39 in-domain and 0 of 28 out-of-domain. Of 40 facts "
        "that both answer, 3 are less known, too."
    )
    assert more_tries_sentence(summary.loss).endswith("got 4 of 120 in-domain right in one of the "
                                                      "other forms.")  # fmt: skip


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ((1, 0, 1, 0), "Of 2 lost facts in-domain, 1 is a matter of form, 0 of access, 1 is "
                       "credibly less known."),
        ((0, 1, 0, 0), "Of 1 lost fact in-domain, 0 are a matter of form, 1 of access, 0 are "
                       "credibly less known."),
        ((0, 0, 0, 0), "No fact was lost in-domain."),
    ],
)  # fmt: skip
def test_the_sentence_counts_few_facts(
    summary: Summary, counts: tuple[int, ...], said: str
) -> None:
    assert summary.loss is not None
    changed = {"kinds": (kinds("tuned", "in", *counts),), "against_itself": (), "kept": ()}
    assert loss_sentence(summary.loss.model_copy(update=changed)) == said
    one = {**changed, "against_itself": (kinds("tuned", "in", 0, 30, 2, 1),)}
    assert loss_sentence(summary.loss.model_copy(update=one)).endswith("less known in 2 of 33.")
    none = {"more_tries": (FormCheck(domain="in", asked=0, came=0),)}
    assert more_tries_sentence(summary.loss.model_copy(update=none)) == ""


def test_kinds_are_of_the_variants_then_noise_then_the_base_against_itself(
    summary: Summary,
) -> None:
    rows = loss.kind_rows(summary, "in")
    assert of_domain(rows) == [
        "tuned", "restored 5 %", "restored 20 %", "restored 60 %", "noise of its size (mean of 3)",
        "draw 1", "draw 2", "draw 3", "facts that both answer", "base against itself",
    ]  # fmt: skip
    assert rows[0][2:7] == (60, 21, 14, 20, 5)
    assert rows[4][2:7] == (16, 2, 11, 1, 2)
    assert rows[-1].knowledge == 1
    assert rows[0].forms["longer budget"] == 7
    assert "draw 1" not in of_domain(loss.short_kind_rows(summary, "in"))
    assert loss.kind_rows(summary, "elsewhere") == []


def test_one_draw_of_noise_is_no_mean(summary: Summary) -> None:
    assert summary.loss is not None
    noise = (kinds("base+noise(1)", "in", 1, 2, 3, 0),)
    once = summary.loss.model_copy(update={"noise": noise, "kept": ()})
    rows = loss.kind_rows(summary.model_copy(update={"loss": once}), "in")
    assert [row.name for row in rows[-2:]] == ["noise of its size (1 draw)", "base against itself"]
    none = summary.model_copy(update={"loss": summary.loss.model_copy(update={"noise": ()})})
    assert {row.series for row in loss.kind_rows(none, "in")} == {"tuned", "restored", "itself"}


def test_healing_has_wilson_intervals_and_no_share_of_nothing(summary: Summary) -> None:
    rows = loss.healing_rows(summary, "out")
    assert of_domain(rows) == ["restored 5 %", "restored 20 %", "restored 60 %"]
    cell = rows[0].cells[0]
    assert cell is not None
    assert (cell.healed, cell.lost) == (1, 12)
    assert cell.bounds == pytest.approx(wilson(1, 12))
    assert rows[0].cells[3] is None
    assert loss.healed(None) == "–"


def test_a_level_table_is_turned_the_best_known_level_first() -> None:
    cells = loss.grid(BEFORE)
    assert [row[0].level for row in cells] == [4, 3, 2, 1, 0]
    assert [cell.facts for cell in cells[0]] == [0, 0, 3, 21, 176]
    assert [cell.move for cell in cells[1]] == ["fell", "fell", "fell", "stayed", "rose"]
    assert cells[0][4].share == pytest.approx(0.88)
    assert loss.moved(BEFORE) == (82, 102, 600)
    assert loss.moved(AFTER) == (219, 62, 600)
    none = loss.grid(((0,) * 5,) * 5)
    assert {cell.share for row in none for cell in row} == {0.0}


def test_the_page_says_all_without_its_scripts(summary: Summary) -> None:
    said = seen(page_of(summary))
    assert "Of 60 lost facts in-domain, 21 are a matter of form" in said
    assert "at most 64 tokens" in said
    assert "tuned 60 21 35 % 14 23 % 20 33 % 5 8 % 7 10 5" in said
    assert "noise of its size (mean of 3) 16 2 12 % 11 69 % 1 6 % 2 12 %" in said
    assert "base against itself 39 – 33 85 % 1 3 % 5 13 % – – –" in said
    assert "restored 5 % 1 of 21 5 % [1, 23] 2 of 14 14 % [4, 40]" in said
    assert "In-domain, base again 14 % lower, 17 % higher" in said
    assert "4 n=200 · · 3 21 176 8 14 26 34 118" in said
    assert "level 0 100 0.0 1.0 1.0 +1.0 0.0" in said
    assert "level 4 100 96.0 89.0 69.0 -7.0 [-8.5, -5.5] -20.0 [-23.0, -17.0]" in said
    assert "tuned 600 -1.65 53.0 36.7 16.7 4.4 [up to 6.1] 0.161 81.2" in said
    assert "10 60 98.0 96.7 [89, 99]" in said
    assert "Relation by relation, in-domain country_capital" in said
    assert '<a href="#loss">' in page_of(summary)


def test_without_kinds_of_loss_the_page_has_no_such_part() -> None:
    page = page_of(full())
    assert "What kind of loss" not in seen(page)
    assert 'data-chart="kinds"' not in page
    assert loss.chart_data(full()) == {}
    assert not any(term == "Calibration" for term, _ in notes.glossary(full()))
    assert "by kind" not in shown(full())
    with pytest.raises(ValueError, match="kinds of loss"):
        loss.kind_rows(full(), "in")


def test_what_was_not_measured_has_no_part(summary: Summary) -> None:
    assert summary.loss is not None
    bare = summary.loss.model_copy(
        update={"healing": (), "calibration": (), "levels": {}, "tables": (), "forms": ()}
    )
    page = page_of(summary.model_copy(update={"loss": bare}))
    said = seen(re.split(r'<section aria-labelledby="(?=loss|repair|restore")', page)[1])
    assert "Further forms: none" in said
    for heading in ("Which kind does", "Mastery levels before", "Does the probability", "came"):
        assert heading not in said
    assert 'data-chart="mastery"' not in page
    assert list(loss_tables(summary.model_copy(update={"loss": bare}))) != []


def test_the_data_is_strict_json_and_has_every_chart_of_the_script(summary: Summary) -> None:
    data = loss.chart_data(summary)
    json.dumps(data, allow_nan=False)
    assert "templates/loss.js" in SCRIPTS
    script = (resources.files("sftbench.report") / "templates/loss.js").read_text("utf-8")
    found = re.search(r"drawAll\(\{ (.*) \}\);", script)
    assert found is not None
    assert set(found[1].split(", ")) == set(data)
    assert not set(data) & set(charts.chart_data(summary))
    drawn = re.findall(r'data-chart="(\w+)" data-domain="([^"]+)"', page_of(summary))
    for name, domain in drawn:
        if name in data:
            assert data[name][domain]
    assert {name for name, _ in drawn} >= set(data)


def test_the_data_is_in_percent(summary: Summary) -> None:
    data = loss.chart_data(summary)
    assert len(data["mastery"]["in after"]) == 25
    assert data["reliability"]["out base"][0] == pytest.approx(
        {"n": 60, "confidence": 8.0, "accuracy": 700 / 60, "low": 5.77, "high": 22.18}, abs=0.01
    )
    assert set(data["reliability"]) == {"in base", "in tuned", "out base", "out tuned"}


def test_hostile_names_are_escaped() -> None:
    hostile = "<script>alert('x')</script>"
    variants = [
        *full().variants[:2],
        two_domains(hostile, 0.45, 0.75).model_copy(update={"name": hostile}),
    ]
    page = page_of(with_loss(with_evidence(make_summary(*variants)), relation=hostile))
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") >= 8


def test_many_restores_are_in_the_tables_and_not_in_the_charts() -> None:
    many = [two_domains(f"tuned+restore(relative,{i}%)", 0.4, 0.7, float(i)) for i in range(1, 12)]
    summary = with_loss(make_summary(*full().variants[:2], *many))
    assert len(loss.kind_rows(summary, "in")) == 12 + 4 + 2
    assert len(loss.short_kind_rows(summary, "in")) == 4
    assert len(loss.chart_data(summary)["kinds"]["in"]) == 4
    assert "restored 7 %" not in re.split("Facts lost", shown(summary))[1]


def test_the_terminal_shows_every_part_in_80_columns(summary: Summary) -> None:
    text = shown(summary)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "Of 60 lost facts in-domain" in text
    assert re.search(r"tuned +60 +21 \(35\) +14 \(23\) +20 \(33\) +5 \(8\)", text)
    assert re.search(r"base against +39 +– +33 \(85\) +1 \(3\)", text)
    assert re.search(r"restored 5 % +1 of 12 +2 of 19 +3 of 8 +– *\n +8 \[1, 35\]", text)
    assert re.search(r"level 4 +100 +96.0 +89.0 +69.0 +-7.0 \[-8, -6\] +-20.0 \[-23, -17\]", text)
    assert re.search(r"tuned +600 +-1.65 +53.0 +36.7 +16.7 +4.4 +6.1 +0.161 +81.2", text)


def test_a_summary_with_kinds_of_loss_survives_its_file(summary: Summary) -> None:
    assert Summary.model_validate_json(summary.model_dump_json()).loss == summary.loss
