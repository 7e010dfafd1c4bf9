"""Restored checkpoints as folders, and the commands that write and name them."""

from __future__ import annotations

import json
from decimal import Decimal
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.restore import rank
from sftbench.checkpoints.restored_folders import planned_outputs, restore_folders
from sftbench.checkpoints.variants import Restored
from sftbench.checkpoints.weights import read_tensors
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Return the folders of a small base and of a model tuned from it."""
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    base = {"model.layers.0.w": torch.randn(10, 10), "model.embed_tokens.weight": torch.randn(3)}
    tuned = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in base.items()}
    folders = SimpleNamespace(base=tmp_path / "base", tuned=tmp_path / "tuned", out=tmp_path / "o")
    for folder, tensors in ((folders.base, base), (folders.tuned, tuned)):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "tokenizer.json").write_text("{}")
        save_file(tensors, folder / "model.safetensors")
    return folders


def test_one_percentage_is_written_to_the_output_itself(pair):
    (done,) = restore_folders(pair.base, pair.tuned, [Decimal(20)], "fp32", pair.out).folders
    assert done.path == pair.out
    expected, report = rank(read_tensors(pair.base), read_tensors(pair.tuned)).apply(Decimal(20))
    written = read_tensors(pair.out)
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    record = json.loads((pair.out / "sftbench_variant.json").read_text())
    assert record["variant"] == "tuned+restore(relative,20%)"
    assert record["report"] == report.record()
    digests = record["base"]["digest"], record["tuned"]["digest"]
    assert record["base_digest"] == digests[0] == checkpoint_digest(pair.base)
    assert record["variant_digest"] == Restored("relative", Decimal(20)).digest(*digests)


def test_several_percentages_are_written_below_the_output(pair):
    steps = []
    result = restore_folders(
        pair.base, pair.tuned, [Decimal(1), Decimal("12.5")], "bf16", pair.out,
        advance=steps.append,
    )  # fmt: skip
    names = {"tuned+restore-relative-1pct-bf16", "tuned+restore-relative-12.5pct-bf16"}
    assert {path.name for path in pair.out.iterdir()} == names
    assert [folder.report.count for folder in result.folders] == [1, 12]
    assert steps == [1, 1, 1]
    assert result.warnings == ()


def test_outputs_are_checked_before_any_work(pair):
    taken = pair.out / "tuned+restore-relative-5pct"
    taken.mkdir(parents=True)
    (taken / "file").write_text("")
    with pytest.raises(SftbenchError, match="already exists") as error:
        restore_folders(
            pair.base / "missing", pair.tuned, [Decimal(1), Decimal(5)], "fp32", pair.out
        )
    assert error.value.where == str(taken)
    assert [path.name for path in pair.out.iterdir()] == [taken.name]
    (pair.base.parent / "file").write_text("")
    with pytest.raises(SftbenchError, match="already exists"):
        planned_outputs(
            [Restored("relative", Decimal(k)) for k in (1, 2)], pair.base.parent / "file"
        )


def test_other_tokenizers_are_told(pair):
    (pair.tuned / "tokenizer.json").write_text('{"added_tokens": [{"id": 1}]}')
    result = restore_folders(pair.base, pair.tuned, [Decimal(20)], "fp32", pair.out)
    assert result.warnings == (
        "The tokenizers differ: the contents of added_tokens differ. "
        "The variants take the tuned model's.",
    )


def test_a_resized_vocabulary_is_told_and_recorded(pair):
    tensors = read_tensors(pair.tuned)
    rows = torch.randn(5, 2)
    save_file({**tensors, EMBEDDING: rows}, pair.tuned / "model.safetensors")
    base = {**read_tensors(pair.base), EMBEDDING: rows[:3].clone()}
    save_file(base, pair.base / "model.safetensors")
    result = restore_folders(pair.base, pair.tuned, [Decimal(20)], "fp32", pair.out)
    assert torch.equal(read_tensors(pair.out)[EMBEDDING], rows)
    (warning,) = result.warnings
    assert warning.startswith(f"The vocabulary was resized from 3 to 5 rows ({EMBEDDING}): the")
    assert json.loads((pair.out / "sftbench_variant.json").read_text())["notes"] == [warning]


def test_a_pair_that_does_not_fit_writes_nothing(pair):
    save_file({"model.layers.0.w": torch.ones(1)}, pair.tuned / "model.safetensors")
    with pytest.raises(SftbenchError, match=r"only .*base has model.embed_tokens.weight"):
        restore_folders(pair.base, pair.tuned, [Decimal(20)], "fp32", pair.out)
    assert not pair.out.exists()


def test_the_command_shows_what_was_done(pair):
    import typer
    from typer.testing import CliRunner

    from sftbench.cli.restore import restore

    app = typer.Typer()
    app.command()(restore)
    models = ["--base", str(pair.base), "--tuned", str(pair.tuned)]
    done = CliRunner().invoke(app, [*models, "--percent", "100,10", "-o", str(pair.out)])
    assert done.exit_code == 0, done.output
    assert "100 scalars ranked in fp32" in done.stdout
    assert "update removed (L1 norm)" in done.stdout
    assert f"tuned+restore(relative,10%) -> {pair.out}/tuned+restore-relative-10pct" in done.stdout
    bad = CliRunner().invoke(app, [*models, "--arithmetic", "fp8", "-o", str(pair.out)])
    assert isinstance(bad.exception, SftbenchError)


def test_the_model_command_prints_one_folder(pair):
    import typer
    from typer.testing import CliRunner

    from sftbench.cli.models import model

    app = typer.Typer()
    app.command()(model)
    done = CliRunner().invoke(app, [str(pair.base)])
    assert done.stdout == f"{pair.base}\n"
