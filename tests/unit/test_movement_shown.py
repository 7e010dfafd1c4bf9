"""How far weights moved, once it was measured: groups of layers, tables, the file that is kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from moved import result_of, three_models
from rich.console import Console

from sftbench.analysis.movement import layer_groups
from sftbench.common.errors import SftbenchError
from sftbench.compare import movement as compared
from sftbench.compare.movement import measure_movement
from sftbench.report import movement as shown
from sftbench.report.movement_tables import movement_table
from sftbench.report.words import MINUS

pytestmark = pytest.mark.unit


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path, Path]:
    return three_models(tmp_path)


def test_layers_are_put_into_groups_that_hold_every_layer(
    models: tuple[Path, Path, Path],
) -> None:
    found = result_of(*models)
    first, second = layer_groups(found, 4)
    assert (first.first, first.last, second.first, second.last) == (0, 0, 1, 1)
    (both,) = layer_groups(found, 1)
    assert (both.first, both.last) == (0, 1)
    assert both.moved.size == first.moved.size + second.moved.size
    assert both.moved.share == pytest.approx((first.moved.share or 0) + (second.moved.share or 0))


def test_the_page_says_in_tables_what_the_maps_show(models: tuple[Path, Path, Path]) -> None:
    found = result_of(*models)
    for measure in shown.maps(found):
        rows = shown.layer_rows(found, measure)
        assert [row.layer for row in rows] == [0, 1]
        said = dict(zip(shown.modules(found), rows[1].figures, strict=True))
        assert said["up_proj"] == ""  # the second layer has none
        assert said["q_proj"]
    assert shown.layer_rows(found, "unchanged")[1].figures[
        shown.modules(found).index("q_proj")
    ] == ("50")


def test_a_cosine_has_the_places_that_chance_leaves_it(models: tuple[Path, Path, Path]) -> None:
    total = result_of(*models).total
    few = total.model_copy(update={"cosine": -0.01234, "cosine_chance": 0.03})
    many = few.model_copy(update={"cosine": -0.0001234, "cosine_chance": 8.6e-5})
    none = few.model_copy(update={"cosine": -0.0001})
    assert [shown.cosine(one) for one in (few, many, none)] == [
        f"{MINUS}0.012", f"{MINUS}0.00012", "0.000",
    ]  # fmt: skip
    assert shown.cosine_by_chance(many) == "0.00009"


def test_the_table_fits_80_columns_whatever_the_figures(models: tuple[Path, Path, Path]) -> None:
    found = result_of(*models)
    line = found.modules[0].model_copy(
        update={
            "module": "post_attention_layernorm", "size": 134_515_008, "norm": 0.000119,
            "relative": 2.71e-6, "enrichment": 0.000394, "rank_share": 0.0123,
            "cosine": -0.00123, "cosine_chance": 8.6e-5,
        }
    )  # fmt: skip
    console = Console(width=80, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(movement_table(found.model_copy(update={"modules": (line,), "total": line})))
    text = console.export_text()
    assert text.count("…") == 1  # of the long name
    assert f"{MINUS}0.00123" in text
    assert "layer 1" in text


def plan_of(base: Path, tuned: Path) -> SimpleNamespace:
    return SimpleNamespace(
        base=SimpleNamespace(path=base, digest="b" * 32),
        tuned=SimpleNamespace(path=tuned, digest="t" * 32),
    )


def test_what_was_measured_is_found_again(
    models: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned, other = models
    plan, folder = plan_of(base, tuned), tmp_path / "out"
    alone = measure_movement(plan, folder)
    assert alone.total.cosine is None
    with_angle = measure_movement(plan, folder, other)
    assert (with_angle.against, with_angle.total.norm) == ("other", alone.total.norm)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(compared, "movement", never)
    assert measure_movement(plan, folder, other) == with_angle
    assert measure_movement(plan, folder) == with_angle  # the angle stays with it
    with pytest.raises(AssertionError, match="measured again"):
        measure_movement(plan, folder, tuned)
    plan.tuned.digest = "u" * 32
    with pytest.raises(AssertionError, match="measured again"):
        measure_movement(plan, folder, other)
    (folder / compared.MOVEMENT).write_text("{}")
    with pytest.raises(AssertionError, match="measured again"):
        measure_movement(plan, folder)


def test_a_model_that_was_tuned_from_another_base_has_no_angle(
    models: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned, other = models
    record = SimpleNamespace(base_digest="c" * 32, base_name="another")
    monkeypatch.setattr(compared, "read_record", lambda _: record)
    with pytest.raises(SftbenchError, match="was tuned from another"):
        measure_movement(plan_of(base, tuned), tmp_path / "out", other)
    assert not (tmp_path / "out").exists()


def test_another_adapter_is_merged_into_the_base_first(
    models: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned, other = models
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    monkeypatch.setattr(compared, "merged", lambda path, into: other)
    found = measure_movement(plan_of(base, tuned), tmp_path / "out", adapter)
    assert found.against == "adapter"
    assert found.total.cosine == result_of(base, tuned, other).total.cosine
