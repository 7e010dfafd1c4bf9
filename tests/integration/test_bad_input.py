"""Bad input through the command line: one message that names the file, exit code 2, no traces."""

import json
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from sftbench.checkpoints.reference import resolve
from sftbench.cli.app import main
from sftbench.facts.reference import SHIPPED
from sftbench.mastery.bundled import FOLDERS
from sftbench.mastery.card import MasteryCard

pytestmark = pytest.mark.integration

LAB_CARD = FOLDERS[1] / "card.parquet"


@pytest.fixture
def sftbench(monkeypatch, capsys, tmp_path):
    """Return a function that runs a command and gives (exit code, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sftbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capsys.readouterr().err

    return run


@pytest.fixture
def copy(tmp_path):
    """A copy of the lab model that a test may spoil."""
    return Path(shutil.copytree(resolve("lab"), tmp_path / "copy"))


def compare(sftbench, tuned, *more):
    code, message = sftbench("compare", "--base", "lab", "--tuned", tuned, "--facts", "lab",
                             "-o", "result", *more)  # fmt: skip
    assert not Path("result").exists()
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]
    return code, message


def spoil(copy, change):
    tensors = load_file(copy / "model.safetensors")
    save_file(change(tensors), copy / "model.safetensors", metadata={"format": "pt"})


def test_a_missing_model(sftbench):
    code, message = compare(sftbench, "nowhere")
    assert code == 2
    assert "there is no model 'nowhere'" in message


def test_truncated_weights(sftbench, copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    code, message = compare(sftbench, copy)
    assert code == 2
    assert str(weights) in message


def test_weights_that_are_not_numbers(sftbench, copy):
    name = "model.layers.0.mlp.up_proj.weight"
    spoil(copy, lambda tensors: {**tensors, name: torch.full_like(tensors[name], torch.nan)})
    code, message = compare(sftbench, copy)
    assert code == 2
    assert name in message


def test_tensors_of_another_shape(sftbench, copy):
    name = "model.layers.0.mlp.up_proj.weight"
    spoil(copy, lambda tensors: {**tensors, name: tensors[name][:-1].contiguous()})
    code, message = compare(sftbench, copy)
    assert code == 2
    assert name in message


def test_tensors_of_another_name(sftbench, copy):
    spoil(
        copy, lambda tensors: {name.replace("up_proj", "upward"): t for name, t in tensors.items()}
    )
    code, message = compare(sftbench, copy)
    assert code == 2
    assert "upward" in message


def test_pickled_weights(sftbench, copy):
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    code, message = compare(sftbench, copy)
    assert code == 2
    assert "safetensors" in message


def test_a_model_that_needs_remote_code(sftbench, copy):
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling.Mine"}
    (copy / "config.json").write_text(json.dumps(config))
    code, message = compare(sftbench, copy)
    assert code == 2
    assert "code" in message


def test_a_card_for_other_facts(sftbench, tmp_path):
    card = MasteryCard.read(LAB_CARD)
    other = tmp_path / "other.parquet"
    MasteryCard(card.frame, {**card.record, "facts_digest": "0" * 32}).write(other)
    code, message = compare(sftbench, "lab", "--mastery", other)
    assert code == 2
    assert f"{other}: this mastery card levels other facts" in message


def test_a_card_of_another_base(sftbench, tmp_path):
    card = MasteryCard.read(LAB_CARD)
    other = tmp_path / "other.parquet"
    MasteryCard(card.frame, {**card.record, "model_digest": "0" * 32}).write(other)
    code, message = compare(sftbench, "lab", "--mastery", other)
    assert code == 2
    assert f"{other}: this mastery card is for the base" in message


@pytest.mark.parametrize("flag", ["--facts", "--mastery"])
def test_a_foreign_file_where_a_table_is_needed(sftbench, tmp_path, flag):
    foreign = tmp_path / "foreign.parquet"
    foreign.write_text("not a table")
    before = () if flag == "--facts" else ("--facts", "lab")
    both = ("--base", "lab", "--tuned", "lab")
    code, message = sftbench("compare", *both, "-o", "result", *before, flag, foreign)
    assert code == 2
    assert f"{foreign}: is not a Parquet file" in message


def test_one_kind_of_table_in_place_of_another(sftbench):
    code, message = sftbench("compare", "--base", "lab", "--tuned", "lab", "-o", "result",
                             "--facts", "lab", "--mastery", SHIPPED["lab"])  # fmt: skip
    assert code == 2
    assert "is a facts table where a mastery table is needed" in message


def test_a_table_without_a_column(sftbench, tmp_path):
    path = tmp_path / "facts.parquet"
    pl.read_parquet(SHIPPED["lab"]).drop("split").write_parquet(path)
    code, message = sftbench("mastery", "--model", "lab", "--facts", path, "-o", "card.parquet")
    assert code == 2
    assert f"{path}: a facts table needs the column split" in message
    assert not Path("card.parquet").exists()


def test_an_output_that_exists_is_kept(sftbench, tmp_path):
    output = tmp_path / "card.parquet"
    output.write_text("dear to somebody")
    code, message = sftbench("mastery", "--model", "lab", "--facts", "lab", "-o", output)
    assert code == 2
    assert f"{output}: already exists" in message
    assert output.read_text() == "dear to somebody"


def test_debug_shows_the_traceback(monkeypatch):
    from sftbench.common.errors import SftbenchError

    monkeypatch.setattr(sys, "argv", ["sftbench", "model", "nowhere", "--debug"])
    with pytest.raises(SftbenchError, match="there is no model 'nowhere'"):
        main()


def test_what_should_not_happen_says_so_and_is_no_verdict(sftbench, monkeypatch):
    def broken(ref, **more):
        raise RuntimeError("odd")

    monkeypatch.setattr("sftbench.checkpoints.reference.resolve", broken)
    code, message = sftbench("model", "lab")
    assert code == 70
    assert "RuntimeError: odd" in message
    assert "--debug" in message
