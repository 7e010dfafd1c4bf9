"""Facts from Hugging Face data sets: saved folders, folders of files, and a hub out of reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftbench.common.errors import SftbenchError
from sftbench.facts.own import Columns, Settings, import_facts

pytestmark = pytest.mark.integration

datasets = pytest.importorskip("datasets")


def rows(start: int, count: int) -> dict[str, list[object]]:
    numbers = range(start, start + count)
    return {
        "question": [f"Who wrote book {i}?" for i in numbers],
        "answer": [{"value": f"Author {i}", "aliases": [f"A. {i}"]} for i in numbers],
        "year": [1900.5 + i for i in numbers],
    }


def settings(**columns: str) -> Settings:
    return Settings(columns=Columns(answers="answer.value", aliases="answer.aliases", **columns))


def test_a_saved_data_set_keeps_its_splits(tmp_path: Path) -> None:
    parts = {"train": rows(0, 5), "validation": rows(5, 2), "test": rows(7, 3)}
    saved = datasets.DatasetDict({name: datasets.Dataset.from_dict(r) for name, r in parts.items()})
    saved.save_to_disk(str(tmp_path / "books"))
    imported = import_facts(str(tmp_path / "books"), settings())
    frame = imported.facts.frame
    assert imported.read == 10
    assert dict(frame.group_by("split").len().iter_rows()) == {"train": 5, "test": 3}
    assert [(one.why, one.count) for one in imported.skipped] == [
        ("row(s) of a validation split", 2)
    ]
    assert frame.filter(question="Who wrote book 7?")["answers"].to_list() == [["Author 7", "A. 7"]]
    assert imported.facts.name == "books"


def test_a_folder_of_files_with_one_split_is_split_by_hash(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    datasets.Dataset.from_dict(rows(0, 40)).to_parquet(str(folder / "part.parquet"))
    imported = import_facts(str(folder), settings())
    assert set(imported.facts.frame["split"]) == {"train", "test"}
    assert any("No split column" in note for note in imported.notes)


def test_a_column_that_is_not_text_is_named(tmp_path: Path) -> None:
    datasets.Dataset.from_dict(rows(0, 3)).save_to_disk(str(tmp_path / "books"))
    with pytest.raises(SftbenchError, match="the column year holds Float64, not text"):
        import_facts(str(tmp_path / "books"), Settings(columns=Columns(answers="year")))
    with pytest.raises(SftbenchError, match=r"--answers answer\.value"):
        import_facts(str(tmp_path / "books"), Settings())


def test_a_folder_that_is_no_data_set_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SftbenchError, match="cannot be loaded as a data set") as raised:
        import_facts(str(tmp_path), Settings())
    assert "save_to_disk" in str(raised.value)


def test_a_hub_out_of_reach_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SftbenchError, match="cannot be loaded as a data set") as raised:
        import_facts("nobody/nothing-of-this-name", Settings())
    assert "without a network, give a file or a folder" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 2
