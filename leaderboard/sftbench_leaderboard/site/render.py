"""Pages from templates: one environment, one policy, and the assets that all pages share."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sftbench
from sftbench.report import html
from sftbench_leaderboard.text import cleaned

if TYPE_CHECKING:
    import jinja2

ASSETS = "assets"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
"""Styles may stand in elements: shares of the heat maps do. Nothing else may."""
REPORT_PARTS = (*html.LIBRARIES, html.STYLE, "templates/page.js", "templates/charts.js")
OWN = "sftbench_leaderboard.site"


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    own, report = jinja2.PackageLoader(OWN), jinja2.PackageLoader("sftbench.report")
    made = html.environment(jinja2.ChoiceLoader([own, jinja2.PrefixLoader({"report": report})]))
    made.filters |= {"visible": visible}
    made.globals |= {"policy": POLICY, "version": sftbench.__version__}
    return made


def visible(text: str) -> str:
    """Return a text in which nothing hides: what may not stand in a record is U+FFFD."""
    return cleaned(text, most=len(text))


def render(template: str, *, root: str = "", **values: Any) -> str:
    """Return a page.

    Args:
        template: its name.
        root: the way back to the site's root, "" or "../".
        values: what it shows.
    """
    return _environment().get_template(template).render(root=root, **values)


def write_assets(site: Path) -> None:
    """Write scripts and style, those of the report and the site's own."""
    folder = site / ASSETS
    folder.mkdir()
    for name in REPORT_PARTS:
        (folder / Path(name).name).write_text(html.part(name), encoding="utf-8")
    static = resources.files(OWN) / "static"
    for one in static.iterdir():
        if one.is_file():
            (folder / one.name).write_bytes(one.read_bytes())
