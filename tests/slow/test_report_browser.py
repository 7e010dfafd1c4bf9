"""The report in a real browser: it draws, asks the network for nothing, and fits a phone."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from browsers import browser_path, needs_browser
from report_samples import (
    changed_table,
    domain,
    full,
    gained_table,
    make_summary,
    variant,
    with_evidence,
    with_relations,
    with_tasks,
)

from sftbench.report.html import render

pytestmark = pytest.mark.slow

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--virtual-time-budget=4000", "--enable-logging=stderr",
)  # fmt: skip
PHONE = 360
HOSTILE = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"

FRAME = """<!doctype html><title>frame</title>
<iframe id="page" src="{name}" style="border:0;width:{width}px;height:4000px"></iframe>
<pre id="found"></pre>
<script>
addEventListener("load", () => setTimeout(() => {{
  const page = document.getElementById("page").contentWindow;
  const root = page.document.documentElement;
  const loaded = page.performance.getEntriesByType("resource").map((one) => one.name);
  const wide = [...root.querySelectorAll("body *")].filter((one) =>
    !one.closest(".scroll") && !one.closest(".visually-hidden") && !one.closest("thead") &&
    one.getBoundingClientRect().right > {width} + 1).map((one) => one.className || one.tagName);
  document.getElementById("found").textContent = JSON.stringify(
    {{ scroll: root.scrollWidth, client: root.clientWidth, wide, loaded }});
}}, 1500));
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page with every chart, and with texts that would do harm if they could."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    summary = with_evidence(with_tasks(with_relations(full())))
    path.write_text(render(summary, changed_table(3, HOSTILE), gained_table(3, "x" * 10_000)))
    return path


def browse(url: str, profile: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Return what the browser wrote: the page after its scripts on stdout, its log on stderr."""
    command = [browser_path(), *FLAGS, f"--user-data-dir={profile}", *more, "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done


def framed(page: Path, profile: Path) -> dict[str, Any]:
    """Return how wide a page is on a phone, and what it loaded."""
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(name=page.name, width=PHONE))
    flags = ("--allow-file-access-from-files", "--window-size=500,900")
    found = re.search(
        r'<pre id="found">(.*?)</pre>', browse(frame.as_uri(), profile, *flags).stdout
    )
    assert found is not None
    seen: dict[str, Any] = json.loads(found[1])
    return seen


@needs_browser
def test_the_page_draws_every_chart_without_an_error(page: Path, tmp_path: Path) -> None:
    done = browse(page.as_uri(), tmp_path / "profile")
    assert "CONSOLE" not in done.stderr
    charts = re.split(r'<div class="chart ', done.stdout)[1:]
    assert [one.split('"')[0] for one in charts] == [
        *["levels"] * 2, *["outcomes"] * 2, *["forgetting"] * 2, *["restore"] * 2,
        "tasks", "relations",
    ]  # fmt: skip
    assert all(re.search(r"<(circle|path|rect)[ >]", one[:20_000]) for one in charts)
    assert "<title>tuned against tiny" in done.stdout


@needs_browser
def test_the_page_fits_a_phone_and_loads_nothing(page: Path, tmp_path: Path) -> None:
    assert framed(page, tmp_path / "profile") == {
        "scroll": PHONE, "client": PHONE, "wide": [], "loaded": [],
    }  # fmt: skip


@needs_browser
def test_a_load_or_a_script_that_got_into_the_page_is_stopped(page: Path, tmp_path: Path) -> None:
    bad = page.with_name("bad.html")
    added = "<script>document.title = 'owned'</script><img src='http://127.0.0.1:9/x.png'>"
    bad.write_text(page.read_text().replace("</main>", f"{added}</main>"))
    done = browse(bad.as_uri(), tmp_path / "profile")
    assert done.stderr.count("violates the following Content Security Policy directive") == 2
    assert "<title>tuned against tiny" in done.stdout


@needs_browser
def test_a_domain_without_figures_does_not_stop_the_other_charts(tmp_path: Path) -> None:
    bare = tmp_path / "bare.html"
    variants = [
        variant(name, domain("in", 0.1, repair=percent is not None), percent=percent)
        for name, percent in (("base", None), ("tuned", None), ("r", 5.0))
    ]
    bare.write_text(render(make_summary(*variants), changed_table(0), gained_table(0)))
    done = browse(bare.as_uri(), tmp_path / "profile")
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count('<div class="chart') == done.stdout.count("<svg") == 3


@needs_browser
def test_without_scripts_the_figures_are_open_and_no_chart_is_missed(
    page: Path, tmp_path: Path
) -> None:
    bare = page.with_name("bare.html")
    bare.write_text(page.read_text().replace("<script>", '<script type="text/plain">'))
    done = browse(bare.as_uri(), tmp_path / "profile")
    assert done.stdout.count('<details class="figures" open') == 3
    assert 'class="scripted"' not in done.stdout
    assert 'class="scripted"' in browse(page.as_uri(), tmp_path / "profile").stdout
