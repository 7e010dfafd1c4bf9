"""The documentation names only what is there: pages, files and commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

import sftbench
from sftbench.cli.app import app
from sftbench.compare.loss_result import LOSS
from sftbench.drift.table import DRIFT
from sftbench.facts.table import FACTS
from sftbench.gate.baseline import BASELINE
from sftbench.lab.world import STATEMENTS
from sftbench.loss.confidence import CONFIDENCE
from sftbench.loss.forms import FORM_ANSWERS
from sftbench.mastery.card import MASTERY
from sftbench.scoring.answers import ANSWERS

pytestmark = pytest.mark.unit

ROOT = Path(sftbench.__file__).resolve().parent.parent
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"(?<!from )\bsftbench ([a-z][a-z-]+)(?: ([a-z][a-z-]+))?")


def commands() -> dict[str, set[str]]:
    """Return every command with its subcommands."""
    found = {
        str(one.name or one.callback.__name__).replace("_", "-"): set()
        for one in app.registered_commands
    }
    for group in app.registered_groups:
        names = (
            one.name or one.callback.__name__ for one in group.typer_instance.registered_commands
        )
        found[str(group.name)] = {str(name).replace("_", "-") for name in names}
    return found


def code_of(page: Path) -> str:
    """Return what a page sets as code: blocks and spans."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```[a-z]*\n(.*?)```", text, flags=re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return "\n".join([*blocks, *spans])


def nav_pages(entry) -> list[str]:
    """Return the pages that a part of the navigation names."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in nav_pages(part)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_navigation_names_every_page():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    there = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}

    assert sorted(nav_pages(nav)) == sorted(there)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_written_exists(page):
    known = commands()
    unknown = []
    for verb, sub in COMMAND.findall(code_of(page)):
        if verb not in known:
            unknown.append(verb)
        elif known[verb] and sub and sub not in known[verb]:
            unknown.append(f"{verb} {sub}")

    assert unknown == []


def test_every_command_is_documented():
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))

    assert [verb for verb in commands() if f"sftbench {verb}" not in text] == []


def test_the_tables_are_documented_column_by_column():
    text = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    asked = (FACTS, MASTERY, ANSWERS, LOSS, CONFIDENCE, FORM_ANSWERS, DRIFT)
    for spec in (*asked, BASELINE, STATEMENTS):
        section = text.split(f"## {spec.kind}\n")[1].split("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \| ([\w()]+) \|", section, flags=re.MULTILINE)

        assert rows == [(name, str(dtype)) for name, dtype in spec.columns.items()]
