"""How drift and movement are shown: rows, charts, page, terminal."""

from __future__ import annotations

import json
import re

import pytest
from drift_samples import FLOOR, LAYERS, MODULES, with_drift
from report_samples import changed_table, full, gained_table
from rich.console import Console

from sftbench.analysis.summary import Summary
from sftbench.report import drift, movement
from sftbench.report.drift_words import drift_sentence, paper_sentence, plain_name
from sftbench.report.html import render
from sftbench.report.terminal import show

pytestmark = pytest.mark.unit

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def summary() -> Summary:
    return with_drift(full())


def page_of(summary: Summary) -> str:
    return render(summary, changed_table(1), gained_table(1))


def terminal_of(summary: Summary) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    show(summary, console)
    return console.export_text()


def test_the_sentences_name_tuned_floor_and_null(summary: Summary) -> None:
    assert summary.drift is not None
    assert drift_sentence(summary.drift) == (
        "Over the tokens of answers, KL(tuned || base) is 0.31 in cloze texts and 0.31 in question "
        "texts, in nats a token; the base read again is 3e-13 from itself, random changes of that "
        "size 0.013 at most."
    )
    assert paper_sentence(summary.drift) == (
        "The paper's figure (ten logits, 40 level-4 facts): 0.217 nats."
    )
    bound = summary.drift.model_copy(update={"exact": False})
    assert "is at least 0.31 in" in drift_sentence(bound)
    without = summary.drift.model_copy(
        update={"paper": tuple(one for one in summary.drift.paper if one.level != 4)}
    )
    assert "none here" in paper_sentence(without)
    assert "cannot be given" in paper_sentence(without.model_copy(update={"paper": ()}))
    assert plain_name("tuned+restore(relative,5%)") == "restore(relative,5%)"


def test_the_picture_holds_every_variant_with_what_is_left_of_its_update(
    summary: Summary,
) -> None:
    points = drift.together(summary, "in")
    names = [one.name for one in points]
    assert names[0] == "tuned"
    assert points[0].norm == 100
    assert {one.series for one in points} <= {"tuned", "restored", "noise"}
    assert all(0 <= one.norm <= 100 for one in points)
    restored = next(one for one in summary.restored)
    half = restored.model_copy(
        update={"restore": {**(restored.restore or {}), "distance": 0.6 * summary.run.update_norm}}
    )
    changed = summary.model_copy(
        update={"variants": (*summary.variants[:2], half, *summary.variants[3:])}
    )
    assert drift.together(changed, "in")[1].norm == pytest.approx(80)


def test_lines_are_cut_where_a_log_scale_shows_nothing(summary: Summary) -> None:
    data = drift.chart_data(summary)
    assert set(data["drift"]) == {"cloze", "question"}
    floor = [row for row in data["drift"]["cloze"] if row["series"] == "floor"]
    assert {row["value"] for row in floor} == {drift.SMALLEST}
    assert drift.chart_data(full()) == {}
    with pytest.raises(ValueError, match="not measured"):
        drift.variants(full())


def test_maps_hold_each_module_of_each_layer(summary: Summary) -> None:
    assert summary.movement is not None
    data = movement.chart_data(summary)["movement"]
    assert set(data) == set(movement.MEASURES)
    assert len(data["relative"]["cells"]) == LAYERS * len(MODULES)
    assert data["relative"]["modules"][0] in ("up_proj", "down_proj")
    norms = [one for one in data["rank"]["cells"] if one["module"] == "input_layernorm"]
    assert all(one["value"] is None for one in norms)
    assert movement.chart_data(full()) == {}
    said = movement.movement_sentence(summary)
    assert "cosine to the update of other is" in said
    still = summary.movement.model_copy(
        update={"total": summary.movement.total.model_copy(update={"norm": 0.0})}
    )
    same = summary.model_copy(update={"movement": still})
    assert movement.movement_sentence(same) == "No weight differs from the base's."


def test_the_page_holds_both_and_escapes_what_models_are_called(summary: Summary) -> None:
    page = page_of(summary)
    assert 'id="drift"' in page
    assert 'id="movement"' in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert {"drift", "together", "movement"} <= set(data)
    hostile = page_of(with_drift(full(), HOSTILE))
    assert HOSTILE not in hostile
    assert "&lt;script&gt;alert(1)" in hostile
    without = page_of(full())
    assert 'id="drift"' not in without
    assert 'id="movement"' not in without


def test_the_terminal_shows_them_in_80_columns(summary: Summary) -> None:
    text = terminal_of(summary)
    assert "KL to the base in cloze texts" in text
    assert "base read again" in text
    assert FLOOR not in text
    assert "How the weights moved" in text
    assert max(map(len, text.splitlines())) <= 80
    bound = summary.drift.model_copy(update={"exact": False})  # type: ignore[union-attr]
    assert "lower bounds" in terminal_of(summary.model_copy(update={"drift": bound}))
