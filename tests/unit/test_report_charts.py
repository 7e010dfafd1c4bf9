"""What the charts draw, and the scripts that draw them."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources

import pytest
from report_samples import (
    changed_table,
    domain,
    full,
    gained_table,
    make_summary,
    variant,
    with_relations,
    with_tasks,
)

from sftbench.report import charts
from sftbench.report.examples import SHOWN, examples
from sftbench.report.html import LIBRARIES

pytestmark = pytest.mark.unit


def test_retention_by_level_has_counts_and_wilson_intervals() -> None:
    rows = charts.level_kept(full().tuned.domains[0])
    assert [row[:4] for row in rows] == [
        (level, 20 * level, 10 * level, 50.0) for level in (1, 2, 3, 4)
    ]
    assert rows[0].low == pytest.approx(29.93, abs=0.01)
    assert rows[0].high == pytest.approx(70.07, abs=0.01)


def test_a_level_in_which_the_base_knows_nothing_has_no_share() -> None:
    rows = charts.level_kept(domain("in", 0.1))
    assert [row[1:] for row in rows] == [(0, 0, None, None, None)] * 4


def test_outcomes_of_a_level_add_up_and_empty_levels_are_left_out() -> None:
    rows = charts.level_outcomes(full().tuned.domains[0])
    assert rows[0] == (4, 40, 40, 4, 16)
    assert rows[-1] == (0, 0, 0, 0, 100)
    assert [row.n for row in rows] == [100] * 5
    assert [row.level for row in charts.level_outcomes(domain("in", 0.1, levels=2))] == [1, 0]


def test_the_restore_curve_is_the_tuned_model_and_what_was_measured() -> None:
    points = charts.restore_curve(full(), "in")
    assert [point.percent for point in points] == [0, 5, 20, 60]
    assert [point.name for point in points][::3] == [
        "tuned",
        "restored 60\N{NARROW NO-BREAK SPACE}%",
    ]
    assert [point.retention for point in points] == pytest.approx([71, 75, 80, 0])
    assert [point.preserved for point in points] == pytest.approx([100, *[3300 / 56] * 3])


def test_all_that_is_ranked_restored_is_a_measured_point_and_not_the_base() -> None:
    last = variant("r", domain("in", 0.5, 0.95, repair=True), percent=100.0)
    points = charts.restore_curve(make_summary(*full().variants[:2], last), "in")
    assert [(point.percent, point.retention) for point in points] == [
        (0.0, pytest.approx(71)),
        (100.0, pytest.approx(95)),
    ]


def test_the_restore_curve_leaves_out_what_has_no_figure() -> None:
    unscored = [
        variant(name, domain("in", 0.1, repair=percent is not None), percent=percent)
        for name, percent in (("base", None), ("tuned", None), ("r", 5.0))
    ]
    points = charts.restore_curve(make_summary(*unscored), "in")
    assert [(point.percent, point.retention) for point in points] == [(0.0, None), (5.0, None)]
    assert charts.restore_curve(full(), "elsewhere") == []


def test_where_the_tuned_model_gained_nothing_nothing_can_be_preserved() -> None:
    summary = full()
    none = summary.tuned.domains[0].model_copy(
        update={"outcomes": summary.tuned.domains[0].outcomes.model_copy(update={"gained": 0})}
    )
    tuned = summary.tuned.model_copy(update={"domains": (none, summary.tuned.domains[1])})
    points = charts.restore_curve(make_summary(summary.base, tuned), "in")
    assert [point.preserved for point in points] == [None]


def test_relations_come_with_their_baselines_the_largest_fall_first() -> None:
    rows = charts.relation_points(with_relations(full()), "in")
    assert rows == [
        ("country_capital", 50, 80.0, 60.0, None, None),
        ("city_country", 20, 50.0, 50.0, 25.0, 5.0),
    ]
    assert charts.relation_points(with_relations(full()), "out") == []


def test_a_task_is_set_against_retention_for_every_variant() -> None:
    summary = with_tasks(full())
    assert charts.task_names(summary) == [("gsm8k", "exact_match")]
    points = charts.task_points(summary, "gsm8k", "exact_match")
    assert [(point.restored, point.value) for point in points] == [
        (None, 0.2), (None, 0.6), (5.0, 0.5), (20.0, 0.4), (60.0, 0.3),
    ]  # fmt: skip
    assert points[1].retention == {"in": pytest.approx(71), "out": pytest.approx(73)}
    assert charts.task_points(summary, "gsm8k", "acc") == []


def test_the_data_is_strict_json_and_has_every_chart_of_the_script() -> None:
    data = charts.chart_data(with_tasks(with_relations(full())))
    json.dumps(data, allow_nan=False)
    script = (resources.files("sftbench.report") / "templates/charts.js").read_text("utf-8")
    found = re.search(r"const DRAW = \{ (.*) \};", script)
    assert found is not None
    assert set(found[1].split(", ")) == set(data) - {"scores"}


def test_examples_say_where_a_fact_stands_and_who_still_answers_it() -> None:
    found = examples(changed_table(SHOWN + 3), "healed_by", full())
    assert (len(found.rows), found.total) == (SHOWN, SHOWN + 3)
    first = found.rows[0]
    assert first.about == "country_capital, in-domain, level 4 (R = 0.93)"
    assert [one.replace("\N{NARROW NO-BREAK SPACE}", " ") for one in first.restored] == ["20 %"]
    assert (first.base_logprob, first.tuned_logprob) == (-1.0, -2.0)
    assert examples(gained_table(0), "preserved_by", full()) == ((), 0)


@pytest.mark.parametrize("name", LIBRARIES)
def test_the_libraries_are_the_files_that_their_authors_published(name: str) -> None:
    folder = resources.files("sftbench.report")
    listed = (folder / "vendor/README.md").read_text("utf-8")
    content = (folder / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() in listed
    assert b"</script" not in content
