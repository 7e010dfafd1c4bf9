"""The report: its sentences, that it is one safe page, and that the pictures show the figures."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from sftbench.analysis.summary import (
    CheckpointRecord,
    DomainResult,
    FactsRecord,
    LevelAccuracy,
    LevelRetention,
    Outcomes,
    PromptRecord,
    Repair,
    Retention,
    RunRecord,
    Summary,
    VariantResult,
)
from sftbench.report import pictures, svg, words
from sftbench.report.html import LOST_SHOWN, render
from sftbench.report.terminal import show

pytestmark = pytest.mark.unit

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = "<script>alert('x')</script>"


def domain(
    name: str, share: float, score: float | None = None, *, levels: int = 5, repair: bool = False
) -> DomainResult:
    """Return a result with accuracy `share` in every level and retention `score`."""
    right = round(100 * share)
    return DomainResult(
        domain=name,
        n=100 * levels,
        levels=tuple(
            LevelAccuracy(level=i, n=100, right=right, accuracy=share, low=share / 2, high=1.0)
            for i in range(levels)
        ),
        macro=share,
        macro_levels=tuple(range(levels)),
        mean_logprob=-1.25,
        retention=Retention(
            score=score,
            scored_levels=() if score is None else (1, 2, 3, 4),
            known=0 if score is None else 312,
            kept=0,
            unknown=1234,
            gained=56,
            gain=56 / 1234,
            levels=tuple(
                LevelRetention(
                    level=i, known=0, kept=0, retained=None, unknown=0, gained=0, gain=None
                )
                for i in range(5)
            ),
        ),
        outcomes=Outcomes(kept=200, lost=98, gained=56, wrong=100 * levels - 354),
        repair=Repair(lost=98, healed=45, gained=56, preserved=33, kept=200, undamaged=199)
        if repair
        else None,
    )


def variant(name: str, *domains: DomainResult, percent: float | None = None) -> VariantResult:
    return VariantResult(
        name=name, slug=name, variant_id="0" * 32, percent=percent, seconds=12.0, domains=domains
    )


def make_summary(*variants: VariantResult, **changed: Any) -> Summary:
    record = CheckpointRecord(name="models/tiny", digest="a" * 32, tokenizer_digest="b" * 32)
    run = RunRecord(
        key="c" * 32,
        base=record,
        tuned=record.model_copy(update={"name": changed.pop("tuned_name", "runs/tuned")}),
        facts=FactsRecord(
            name="geography",
            digest="d" * 32,
            domains=("in", "out"),
            asked=1000,
            asked_digest="e" * 32,
            unlevelled=0,
        ),
        card={"digest": "f" * 32},
        prompt=PromptRecord(name="fewshot", shots=4, max_new_tokens=16, how="words"),
        update_norm=1.5,
        arithmetic="fp32",
        engine={"engine": "fake"},
        software={"sftbench": "0"},
        command="sftbench compare",
        made="2026-01-01T00:00:00+00:00",
        seconds=30.0,
    )
    return Summary(run=run, variants=variants, **changed)


def two_domains(
    name: str, share: float, kept: float, percent: float | None = None
) -> VariantResult:
    repair = percent is not None
    return variant(
        name,
        domain("in", share, kept, repair=repair),
        domain("out", share, kept + 0.02, repair=repair),
        percent=percent,
    )


def full() -> Summary:
    return make_summary(
        two_domains("base", 0.5, 0.98),
        two_domains("tuned", 0.4, 0.71),
        two_domains("tuned+restore(relative,5%)", 0.45, 0.75, 5.0),
        two_domains("tuned+restore(relative,20%)", 0.48, 0.8, 20.0),
        two_domains("tuned+restore(relative,60%)", 0.01, 0.0, 60.0),
    )


def lost_table(count: int, text: str = " Chile") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "fact_id": [str(i) for i in range(count)],
            "domain": "in",
            "relation": "country_capital",
            "level": 4,
            "rate": 0.93,
            "question": [f"Question {i}?" for i in range(count)],
            "answer": text,
            "base_text": text,
            "tuned_text": text,
            "base_logprob": -1.0,
            "tuned_logprob": -2.0,
            "healed_by": [["tuned+restore(relative,20%)"]] * count,
        }
    )


def plain(text: str) -> str:
    return text.replace(words.NARROW, " ").replace(words.FIXED, " ")


class Balanced(HTMLParser):
    """Checks that tags nest, and collects what a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_the_headline_states_every_restored_percentage_and_picks_none() -> None:
    assert plain(words.headline(full())) == (
        "The fine-tune kept 71 % of what the base knew in-domain (n = 312) and 73 % "
        "out-of-domain (n = 312). Restoring the 5 / 20 / 60 % most changed parameters: "
        "75 / 80 / 0 % in-domain, 77 / 82 / 2 % out-of-domain."
    )
    assert plain(words.subline(full())) == (
        "Accuracy, as the mean over mastery levels, went from 50 % to 40 % in-domain and "
        "50 % to 40 % out-of-domain. Restoring 5 / 20 / 60 % heals 90 / 90 / 90 of 196 lost facts "
        "and preserves 66 / 66 / 66 of 112 gained."
    )


def test_the_headline_of_one_percentage() -> None:
    said = plain(words.headline(make_summary(*full().variants[:3])))
    assert said.endswith(
        "Restoring the 5 % most changed parameters: 75 % in-domain, 77 % out-of-domain."
    )


def test_a_base_that_knows_nothing_is_said() -> None:
    summary = make_summary(variant("base", domain("in", 0.0)), variant("tuned", domain("in", 0.1)))
    assert words.headline(summary).startswith("The base answers none of these facts")
    assert any("rests on very little" in caveat for caveat in words.caveats(summary))
    parsed(render(summary, lost_table(0)))


def test_a_domain_without_a_score_is_not_passed_over() -> None:
    base = variant("base", domain("in", 0.1), domain("out", 0.5, 1.0))
    tuned = variant("tuned", domain("in", 0.1), domain("out", 0.5, 0.9))
    assert plain(words.headline(make_summary(base, tuned))) == (
        "The fine-tune kept 90 % of what the base knew out-of-domain (n = 312). None of the facts "
        "of level 1 to 4 is answered right by the base in-domain."
    )
    restored = variant("r", domain("in", 0.1), domain("out", 0.5, 0.95), percent=5.0)
    said = plain(words.headline(make_summary(base, tuned, restored)))
    assert said.endswith("Restoring the 5 % most changed parameters: 95 % out-of-domain.")


def test_levels_without_facts_are_named() -> None:
    sparse = variant("base", domain("in", 0.5, 1.0, levels=3))
    found = words.caveats(make_summary(sparse, variant("tuned", domain("in", 0.4, 0.9, levels=3))))
    assert "No facts in-domain in level 3 and 4: the macro is over level 0, 1 and 2." in found


def test_the_page_stands_alone_and_its_tags_nest() -> None:
    page = render(full(), lost_table(3))
    parser = parsed(page)
    assert parser.loads == []
    assert "url(" not in page
    assert "@import" not in page
    assert not parser.tags & {"script", "link", "img", "iframe"}
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page


def test_a_page_without_restore_and_losses_says_so() -> None:
    page = render(make_summary(*full().variants[:2]), lost_table(0))
    parsed(page)
    assert 'id="restore"' not in page
    assert "Healed by restoring" not in page
    assert "None: the tuned model answers right all that the base answers right." in page


def test_whatever_models_and_users_write_is_escaped() -> None:
    summary = make_summary(
        *full().variants, tuned_name=HOSTILE, warnings=(HOSTILE,), recipe={"size": HOSTILE}
    )
    page = render(summary, lost_table(1, HOSTILE))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 6
    parsed(page)


def test_many_lost_facts_are_cut_and_counted() -> None:
    page = render(full(), lost_table(LOST_SHOWN + 1))
    assert f"Question {LOST_SHOWN - 1}?" in page
    assert f"Question {LOST_SHOWN}?" not in page
    assert f"{LOST_SHOWN} of {LOST_SHOWN + 1} are shown" in page


def test_a_recipe_is_shown_without_its_facts() -> None:
    summary = make_summary(
        *full().variants, recipe={"steps": 30, "drawn": {"fact_ids": ["0123abcd"]}}
    )
    page = render(summary, lost_table(0))
    assert "&#34;steps&#34;: 30" in page
    assert "0123abcd" not in page


def test_pictures_are_well_formed_and_place_marks_at_their_figures() -> None:
    tuned = full().tuned
    track = ET.fromstring(pictures.retention_track(tuned))
    marks = [one.get("x") for one in track.iter("svg") if "mark" in str(one.get("class"))]
    assert marks == ["71.00%", "73.00%"]
    assert track.get("role") == "img"
    assert "in-domain: 71.0" in str(track.get("aria-label"))
    plot = ET.fromstring(pictures.level_plot(full().base.domains[0], tuned.domains[0]))
    tops = {
        one.get("y")
        for one in plot.iter("svg")
        if "circle" in str(one.get("class")) and one.get("y")
    }
    assert tops == {f"{pictures.PLOT_HEIGHT * 0.6:.0f}"}


def test_the_curve_runs_from_tuned_to_the_largest_percentage() -> None:
    drawn = ET.fromstring(pictures.curve(full(), lambda one: one.macro, "Accuracy"))
    places = [
        float(str(one.get("x")).rstrip("%"))
        for one in drawn.iter("svg")
        if "circle" in str(one.get("class"))
    ]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (3.0, 97.0)
    unscored = [
        variant(name, domain("in", 0.1), percent=percent)
        for name, percent in (("base", None), ("tuned", None), ("r", 5.0))
    ]
    empty = pictures.curve(make_summary(*unscored), lambda one: one.retention.score, "Retention")
    assert "reference" not in empty
    only_zero = make_summary(*full().variants[:2], two_domains("r", 0.4, 0.7, 0.0))
    ET.fromstring(pictures.curve(only_zero, lambda one: one.macro, "Accuracy"))


def test_svg_escapes_text_and_attributes() -> None:
    drawn = svg.element("text", "<b> & c", aria_label='"<')
    assert drawn == '<text aria-label="&#34;&lt;">&lt;b&gt; &amp; c</text>'


def test_the_terminal_tables_fit_80_columns_and_hold_the_figures() -> None:
    console = Console(file=io.StringIO(), width=80)
    show(full(), console)
    text = plain(console.file.getvalue())  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert re.search(r"restored 20 % +48\.0 +48\.0 +80\.0 +82\.0 +98 +98 +56 +56", text)
    assert re.search(r"Accuracy by mastery level out-of-domain", text)
