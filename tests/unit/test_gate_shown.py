"""A gate on the terminal, as JUnit XML and as Markdown, whatever a model answered."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree as Xml

import pytest
from gates import TERMS, facts_of, side
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sftbench.gate.judge import judge
from sftbench.report.gate_junit import clean, junit
from sftbench.report.gate_markdown import markdown, plain
from sftbench.report.gate_terminal import print_gate

pytestmark = pytest.mark.unit


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
