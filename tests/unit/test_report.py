"""The report: its sentences, that it is one safe page, and what the terminal shows."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import pytest
from report_samples import (
    changed_table,
    domain,
    full,
    gained_table,
    make_summary,
    two_domains,
    variant,
    with_relations,
    with_tasks,
)
from rich.console import Console

from sftbench.analysis.summary import DomainResult
from sftbench.report import notes, words
from sftbench.report.examples import SHOWN
from sftbench.report.html import SCRIPTS, render
from sftbench.report.terminal import show

pytestmark = pytest.mark.unit

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = "<script>alert('x')</script>"


def plain(text: str) -> str:
    return text.replace(words.NARROW, " ").replace(words.FIXED, " ")


class Balanced(HTMLParser):
    """Checks that tags nest; collects what a page would load, its scripts, ids and links."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.policy = ""
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.loads += [f"{tag} {name}" for name in found if name in ("src", "srcset", "data")]
        if "href" in found:
            self.links.append(str(found["href"]))
        if "id" in found:
            self.ids.append(str(found["id"]))
        if found.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(found["content"])
        if tag == "script" and "type" not in found:
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"] and self.scripts:
            self.scripts[-1] += data

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    return parser


def test_the_headline_states_every_restored_percentage_and_picks_none() -> None:
    assert plain(words.headline(full())) == (
        "The fine-tune kept 100 of the 200 facts that the base knew in-domain (50 %; mean over "
        "levels 71 %) and 100 of 200 out-of-domain (50 %; 73 %). Restoring the 5 / 20 / 60 % most "
        "changed parameters: retention (mean over levels) 75 / 80 / 0 % in-domain, 77 / 82 / 2 % "
        "out-of-domain."
    )
    assert plain(words.accuracy_sentence(full())) == (
        "Accuracy, as the mean over mastery levels, went from 50 % to 40 % in-domain and "
        "50 % to 40 % out-of-domain: 196 facts lost, 112 gained."
    )


def test_the_headline_of_one_percentage() -> None:
    said = plain(words.headline(make_summary(*full().variants[:3])))
    assert said.endswith(
        "Restoring the 5 % most changed parameters: retention (mean over levels) 75 % in-domain, "
        "77 % out-of-domain."
    )


def test_without_a_restore_there_is_no_sentence_of_it() -> None:
    summary = make_summary(*full().variants[:2])
    assert words.restore_sentence(summary) == ""
    assert words.headline(summary) == words.verdict(summary)


def test_a_base_that_knows_nothing_is_said() -> None:
    summary = make_summary(
        variant("base", domain("in", 0.0)),
        variant("tuned", domain("in", 0.1)),
        variant("r", domain("in", 0.1), percent=5.0),
    )
    assert words.headline(summary).startswith("The base answers none of these facts")
    assert words.restore_sentence(summary) == ""
    assert any("rests on very little" in caveat for caveat in notes.caveats(summary))
    parsed(render(summary, changed_table(0), gained_table(0)))


def test_a_domain_without_a_score_is_not_passed_over() -> None:
    base = variant("base", domain("in", 0.1), domain("out", 0.5, 1.0))
    tuned = variant("tuned", domain("in", 0.1), domain("out", 0.5, 0.9))
    assert plain(words.headline(make_summary(base, tuned))) == (
        "The fine-tune kept 100 of the 200 facts that the base knew out-of-domain (50 %; mean over "
        "levels 90 %). None of the facts of level 1 to 4 is answered right by the base in-domain."
    )
    restored = variant("r", domain("in", 0.1), domain("out", 0.5, 0.95), percent=5.0)
    said = plain(words.headline(make_summary(base, tuned, restored)))
    assert said.endswith("parameters: retention (mean over levels) 95 % out-of-domain.")


def with_level(result: DomainResult, level: int, known: int, kept: int) -> DomainResult:
    levels = list(result.retention.levels)
    levels[level] = levels[level].model_copy(update={"known": known, "kept": kept})
    retention = result.retention.model_copy(update={"levels": tuple(levels)})
    return result.model_copy(update={"retention": retention})


def test_levels_that_rest_on_few_facts_are_named() -> None:
    base = two_domains("base", 0.5, 1.0)
    inside = with_level(domain("in", 0.5, 0.9), 1, 2, 1)
    outside = with_level(with_level(domain("out", 0.5, 0.9), 1, 9, 9), 2, 10, 9)
    found = notes.caveats(make_summary(base, variant("tuned", inside, outside)))
    assert found[0] == (
        "Each level counts alike in the retention score: level 1 in-domain rests on 2 facts "
        "and level 1 out-of-domain rests on 9 facts."
    )
    assert not any("counts alike" in one for one in notes.caveats(full()))


def test_lost_facts_of_level_0_are_told_apart_from_those_of_the_verdict() -> None:
    tuned = variant("tuned", with_level(domain("in", 0.4, 0.9), 0, 3, 1))
    summary = make_summary(variant("base", domain("in", 0.5, 1.0)), tuned)
    assert words.accuracy_sentence(summary).endswith(": 98 facts lost (2 of level 0), 56 gained.")


def test_levels_without_facts_are_named() -> None:
    sparse = variant("base", domain("in", 0.5, 1.0, levels=3))
    found = notes.caveats(make_summary(sparse, variant("tuned", domain("in", 0.4, 0.9, levels=3))))
    assert "No facts in-domain in level 3 and 4: the macro is over level 0, 1 and 2." in found


@pytest.mark.parametrize(
    ("value", "written"), [(-1.25, "−1.2"), (-0.04, "0.0"), (0.0, "0.0"), (-10.04, "−10.0")]
)
def test_log_probabilities_have_a_minus_sign_and_no_negative_zero(
    value: float, written: str
) -> None:
    assert words.nats(value) == written


@pytest.mark.parametrize(("value", "written"), [(0.21, "0.210"), (-3, "−3.000"), (27.34, "27.3")])
def test_figures_of_a_task_have_the_decimals_of_their_size(value: float, written: str) -> None:
    assert words.figure(value) == written


def test_a_long_text_is_cut_and_its_tooltip_is_bounded() -> None:
    assert words.clip("  two\nlines ") == ("two lines", None)
    exact = "x" * words.SHOWN_CHARACTERS
    assert words.clip(exact) == (exact, None)
    shown, whole = words.clip(exact + "y")
    assert (shown, whole) == (exact + "…", exact + "y")
    shown, whole = words.clip("z" * 10_000)
    assert (len(shown), len(whole or "")) == (
        words.SHOWN_CHARACTERS + 1,
        words.TITLE_CHARACTERS + 1,
    )


def test_the_page_stands_alone_and_its_tags_nest() -> None:
    page = render(with_tasks(with_relations(full())), changed_table(3), gained_table(2))
    parser = parsed(page)
    assert parser.loads == []
    assert all(link.startswith("#") and link[1:] in parser.ids for link in parser.links)
    assert len(parser.links) == 9
    assert "url(" not in page.split("<script")[0]
    assert "@import" not in page
    assert not parser.tags & {"link", "img", "iframe", "object", "embed", "form"}
    assert 'name="viewport"' in page
    assert len(page) < 1_000_000


def test_the_policy_allows_the_scripts_of_the_page_and_nothing_else() -> None:
    parser = parsed(render(full(), changed_table(1), gained_table(0)))
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()) for one in parser.scripts]
    allowed = " ".join(f"'sha256-{one.decode()}'" for one in hashes)
    assert parser.policy == (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert len(hashes) == len(SCRIPTS)


def test_a_page_without_restore_tasks_relations_and_losses_says_so() -> None:
    page = render(make_summary(*full().variants[:2]), changed_table(0), gained_table(0))
    parser = parsed(page)
    assert not {"restore", "tasks", "relations"} & set(parser.ids)
    assert {f"#{one}" for one in ("restore", "tasks", "relations")}.isdisjoint(parser.links)
    assert "Healed by restoring" not in page
    assert "None: the tuned model answers right all that the base answers right." in page


def test_whatever_models_and_users_write_is_escaped() -> None:
    summary = make_summary(
        *full().variants,
        tuned_name=HOSTILE,
        warnings=(HOSTILE,),
        recipe={"size": HOSTILE},
        rescored_from=HOSTILE,
    )
    relations = with_relations(summary)
    named = relations.relations[0].model_copy(update={"relation": HOSTILE})
    baseline = relations.baselines[0].model_copy(update={"majority_answer": HOSTILE})
    hostile = with_tasks(
        relations.model_copy(
            update={"relations": (named, relations.relations[1]), "baselines": (baseline,)}
        ),
        HOSTILE,
    )
    page = render(hostile, changed_table(1, HOSTILE), gained_table(1, HOSTILE))
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;") >= 14
    assert "alert" not in "".join(parsed(page).scripts)


def test_a_very_long_answer_does_not_fill_the_page() -> None:
    short = render(full(), changed_table(1), gained_table(0))
    long = render(full(), changed_table(1, "x" * 10_000), gained_table(0))
    assert len(long) - len(short) < 3 * 2 * words.TITLE_CHARACTERS
    assert f'title="{"x" * words.TITLE_CHARACTERS}…"' in long


def test_an_empty_answer_is_said() -> None:
    page = render(full(), changed_table(1, " "), gained_table(0))
    assert '<i class="nothing">nothing</i>' in page


def test_many_changed_facts_are_cut_and_counted() -> None:
    page = render(full(), changed_table(SHOWN + 1), gained_table(SHOWN + 5))
    assert page.count(f"Question {SHOWN - 1}?") == 2
    assert f"Question {SHOWN}?" not in page
    assert f"{SHOWN} of {SHOWN + 1} are shown; all are in lost.csv" in page
    assert f"{SHOWN} are shown; all are in gained.csv" in page


def test_chat_and_scoring_again_are_said() -> None:
    tables = changed_table(0), gained_table(0)
    page = render(make_summary(*full().variants, chat=True, rescored_from="runs/a"), *tables)
    assert "<b>Chat.</b>" in page
    assert "through the tokenizer&#39;s chat template" in page
    assert "<b>Scored again.</b> The answers are those of runs/a" in page
    assert "chat" not in parsed_text(render(full(), *tables))


def parsed_text(page: str) -> str:
    """Return a page without its scripts and tags, in lower case."""
    bare = re.sub(r"<(script|style).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", "", bare).lower()


def test_a_recipe_is_shown_without_its_facts() -> None:
    summary = make_summary(
        *full().variants, recipe={"steps": 30, "drawn": {"fact_ids": ["0123abcd"]}}
    )
    page = render(summary, changed_table(0), gained_table(0))
    assert "&#34;steps&#34;: 30" in page
    assert "0123abcd" not in page


def test_the_data_of_the_charts_is_json_that_ends_no_script() -> None:
    summary = with_tasks(full(), "</script><b>")
    page = render(summary, changed_table(0), gained_table(0))
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found is not None
    data = json.loads(found[1])
    assert list(data["tasks"]) == ["</script><b> exact_match"]
    assert {name: one["value"] for name, one in data["scores"].items()} == {
        "in": pytest.approx(71),
        "out": pytest.approx(73),
    }


def test_the_terminal_tables_fit_80_columns_and_hold_the_figures() -> None:
    text = shown(relations=False)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert re.search(r"restored 20 % +80\.0 +82\.0 +98 +98 +56 +56", text)
    assert re.search(r"restored 20 % +48\.0 +48\.0 +48\.0 +48\.0 +48\.0 +48\.0", text)
    assert re.search(r"Accuracy by mastery level out-of-domain", text)
    assert "country_capital" not in text


def test_the_terminal_lists_relations_when_asked() -> None:
    text = shown(relations=True)
    assert max(map(len, text.splitlines())) <= 80
    assert re.search(r"country_capital +in +50 +80\.0 +60\.0 +30 +10 +0", text)
    assert re.search(r"city_country +in +20 +50\.0 +50\.0 +10 +0 +0 +25\.0", text)


def shown(*, relations: bool) -> str:
    file = io.StringIO()
    show(with_relations(full()), Console(file=file, width=80), relations=relations)
    return plain(file.getvalue())
