"""The site of a leaderboard in a browser: works from files, asks nobody, runs nothing foreign."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from browsers import browser_path, needs_browser
from sftbench_leaderboard.known import Known
from sites import data_of, hostile_board, made_up, rejected_verdicts, with_runs, write_site

pytestmark = [pytest.mark.slow, needs_browser]

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
DESK = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 780}
SETTLED = "() => new Promise((done) => setTimeout(done, 250))"
FOREIGN = "main iframe, main base, main link, main form[action], main :not(svg) > style"
WIDE = """() => [...document.querySelectorAll("body *")].filter((one) => !one.closest(".scroll") &&
  !one.closest(".visually-hidden") && !one.closest(".skip") && !one.closest("thead") &&
  one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a browser that all tests share."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser_path(), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made-up")
    return write_site(made_up(folder / "results"), Known(), folder / "site")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return write_site(*with_runs(folder), folder / "site")


class Seen:
    """A page as it was opened: what it said, what it asked for, and whether something got in."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": DESK, **context})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda one: self.said.append(one.text))
        self.page.on("pageerror", lambda one: self.said.append(str(one)))
        self.page.on("dialog", lambda one: (self.said.append("dialog"), one.dismiss()))
        self.page.on("request", lambda one: self.asked.append(one.url))
        self.page.goto(url)
        self.page.evaluate(SETTLED)

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)

    def texts(self, selector: str) -> list[str]:
        return self.page.locator(selector).all_inner_texts()


def pages_of(site: Path) -> list[Path]:
    """Return every kind of page, and all models of a small site."""
    return [*sorted(site.glob("*.html")), *sorted((site / "models").glob("*.html"))[:4]]


def test_every_page_draws_without_an_error_and_asks_nobody(browser, site, runs):
    for page in [*pages_of(site), *pages_of(runs)]:
        with Seen(browser, page.as_uri()) as seen:
            assert seen.said == [], page
            assert all(one.startswith("file:///") for one in seen.asked), page


def test_pages_fit_a_phone(browser, site, runs):
    for page in [*pages_of(site), *pages_of(runs)]:
        with Seen(browser, page.as_uri(), viewport=PHONE) as seen:
            assert seen.page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], (
                page
            )
            assert seen.page.evaluate(WIDE) == [], page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, site, runs, scheme):
    axe = (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    ids = data_of(site / "compare.html")["answers"]
    group, found = next(iter(ids.items()))
    chosen = ",".join(found["records"]["record"][:3])
    urls = [one.as_uri() for one in [*pages_of(site)[:5], *pages_of(runs)]]
    for url in [*urls, f"{(site / 'compare.html').as_uri()}#g={group}&m={chosen}"]:
        with Seen(browser, url, color_scheme=scheme) as seen:
            seen.page.evaluate(
                "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
            )
            seen.page.evaluate(axe)
            broken = seen.page.evaluate("async () => (await axe.run()).violations")
            serious = [one for one in broken if one["impact"] in ("serious", "critical")]
            assert [
                (one["id"], [it["html"][:200] for it in one["nodes"][:3]]) for one in serious
            ] == [], url


def test_the_table_sorts_filters_searches_and_keeps_it_in_the_address(browser, site):
    with Seen(browser, (site / "index.html").as_uri()) as seen:
        page = seen.page
        assert seen.text("#count").startswith("24 of 24")
        page.click("[data-sort=in_retention]")
        assert page.locator("th[aria-sort=descending]").inner_text().startswith("Retention in")
        down = _figures(seen, 3)
        assert down == sorted(down, reverse=True)
        page.keyboard.press("Enter")  # the header has the focus still
        assert _figures(seen, 3) == sorted(down)
        page.fill("#q", "model-1")
        shown = seen.texts("#body th a")
        assert shown
        assert all("model-1" in one for one in shown)
        address = page.url
        assert "sort=in_retention" in address
        assert "q=model-1" in address
    with Seen(browser, address) as again:
        assert again.texts("#body th a") == shown
        again.page.fill("#q", "nothing is called so")
        assert "No record is left" in again.text("#count")


def _figures(seen: Seen, column: int) -> list[float]:
    return [float(one) for one in seen.texts(f"#body tr td:nth-of-type({column}) b")]


@pytest.mark.parametrize(
    "state", ["sort=foo", "n=-5", "cols=foo", "base=foo&group=foo&kind=foo&method=foo", "m=foo,bar"]
)
def test_an_address_with_what_is_not_there_shows_the_table(browser, site, state):
    with Seen(browser, f"{(site / 'index.html').as_uri()}#{state}") as seen:
        assert seen.said == []
        assert seen.text("#count").startswith("24 of 24")


def test_columns_are_shown_on_demand(browser, site):
    with Seen(browser, (site / "index.html").as_uri()) as seen:
        seen.page.click(".columns summary")
        seen.page.check("#columns input[value=parameters]")
        assert "Parameters" in seen.texts("#head th")
        assert "parameters" in seen.page.url
        seen.page.uncheck("#columns input[value=drift]")
        assert "Drift" not in seen.texts("#head th")


def test_models_of_one_group_are_compared_from_the_table(browser, site):
    with Seen(browser, (site / "index.html").as_uri()) as seen:
        for number in (0, 1, 2):
            seen.page.locator("#body input").nth(number).check()
        seen.page.click("#compare")
        seen.page.wait_for_selector("#found table")
        assert len(seen.texts("#chips li")) == 3
        assert len(seen.texts("#found .scroll")) == 2
        assert "reference" in seen.text("#found .scroll >> nth=0")
        seen.page.click("[data-first] >> nth=0")
        assert seen.said == []


def test_the_page_computes_the_differences_that_python_computes(browser, site):
    from sites import made_up_contrast

    answers = data_of(site / "compare.html")["answers"]
    group, found = next(iter(answers.items()))
    pair = found["records"]["record"][:2]
    with Seen(browser, f"{(site / 'compare.html').as_uri()}#g={group}&m={','.join(pair)}") as seen:
        for place, domain in enumerate(("in", "out")):
            row = seen.text(f"#found .scroll >> nth={place} >> tbody tr >> nth=1")
            contrast = made_up_contrast(site, pair, domain)
            bounds = contrast.over_facts(0.025)
            figures = [f"{100 * one:+.1f}".replace("-", "−") for one in (contrast.value, *bounds)]
            assert f"{figures[0]} [{figures[1]}, {figures[2]}]" in row


def test_the_tradeoff_draws_a_front_that_nothing_beats(browser, site):
    with Seen(browser, (site / "tradeoff.html").as_uri()) as seen:
        gains = [
            float(one.replace("−", "-")) for one in seen.texts("#found tbody td:nth-of-type(1)")
        ]
        kept = [float(one.split()[0]) for one in seen.texts("#found tbody td:nth-of-type(2)")]
        assert gains == sorted(gains, reverse=True)
        assert kept == sorted(kept)
        assert seen.page.locator("#found svg circle").count() >= 24
        seen.page.select_option("#domain", "out")
        assert "domain=out" in seen.page.url


def test_a_theme_stays_from_page_to_page(browser, site):
    with Seen(browser, (site / "index.html").as_uri(), color_scheme="light") as seen:
        seen.page.click("#theme")
        assert seen.page.evaluate("document.documentElement.dataset.theme") == "dark"
        seen.page.click("text=The score")
        seen.page.wait_for_url("**/score.html")
        seen.page.evaluate(SETTLED)
        assert seen.page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_model_page_has_its_restores_its_facts_and_its_command(browser, runs):
    page = next((runs / "models").glob("*.html"))
    with Seen(browser, page.as_uri()) as seen:
        text = seen.text("main")
        for said in ("restored 10", "Lost facts", "What is number", "sftbench compare"):
            assert said in text
        drawn = seen.page.locator(".chart:has(svg)").count()
        assert drawn == seen.page.locator(".chart").count() > 0


def test_nothing_foreign_runs_loads_or_hides(browser, tmp_path):
    site = write_site(*hostile_board(tmp_path), tmp_path / "site", rejected_verdicts())
    for page in pages_of(site):
        with Seen(browser, page.as_uri()) as seen:
            for box in seen.page.locator("#body input").all():
                box.check()
            seen.page.evaluate(
                "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
            )
            seen.page.evaluate(SETTLED)
            assert seen.page.evaluate("window.owned") is None, page
            assert seen.page.title() != "owned", page
            assert all(one.startswith("file:///") for one in seen.asked), page
            assert seen.said == [], page
            assert seen.page.locator(FOREIGN).count() == 0
            shown = seen.text("body")
            assert not set("\u202e\u2066\u200b\0") & set(shown), page


def test_what_a_board_holds_cannot_leave_the_folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    before = {one for one in tmp_path.parent.rglob("*") if "site" not in one.parts}
    site = write_site(*hostile_board(folder), tmp_path / "site", rejected_verdicts())
    outside = {one for one in tmp_path.parent.rglob("*") if "site" not in one.parts} - before
    assert all(folder in one.parents for one in outside)
    assert all(one.resolve().is_relative_to(site.resolve()) for one in site.rglob("*"))
