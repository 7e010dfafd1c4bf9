"""Restored checkpoints as folders, and the commands that write and name them."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from two_models import relative
from whole_model import rank

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.planning import planned_of
from sftbench.checkpoints.restored_folders import plan_folders, planned_outputs, write_restored
from sftbench.checkpoints.rules import Restored
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


def write(pair, rules, steps=None):
    """Plan and write what a rule makes of a pair, as the command does."""
    paths = planned_outputs(rules, pair.out)
    planning = plan_folders(pair.base, pair.tuned, rules, advance=steps)
    write_restored(planning, paths, advance=steps)
    return planning, paths


def test_one_percentage_is_written_to_the_output_itself(pair):
    planning, (path,) = write(pair, relative(20))
    assert path == pair.out
    (done,) = planning.planned
    expected, figures = rank(read_tensors(pair.base), read_tensors(pair.tuned)).apply(Decimal(20))
    written = read_tensors(pair.out)
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    record = json.loads((pair.out / "sftbench_variant.json").read_text())
    assert record["variant"] == "tuned+restore(relative,20%)"
    assert record["report"] == json.loads(json.dumps(done.report.record()))
    assert (done.report.count, done.report.changed) == (figures.count, figures.changed)
    assert planned_of(record).cuts == done.cuts
    digests = record["base"]["digest"], record["tuned"]["digest"]
    assert record["base_digest"] == digests[0] == checkpoint_digest(pair.base)
    assert record["variant_digest"] == Restored("relative", Decimal(20)).digest(*digests)


def test_several_percentages_are_written_below_the_output(pair):
    steps = []
    rules = [replace(rule, arithmetic="bf16") for rule in relative(1, 12.5)]
    planning, _ = write(pair, rules, steps.append)
    names = {"tuned+restore-relative-1pct-bf16", "tuned+restore-relative-12.5pct-bf16"}
    assert {path.name for path in pair.out.iterdir()} == names
    assert [one.report.count for one in planning.planned] == [1, 12]
    assert steps == [1, 1, 1]
    assert planning.notes == ()


def test_outputs_are_checked_before_any_work(pair):
    taken = pair.out / "tuned+restore-relative-5pct"
    taken.mkdir(parents=True)
    (taken / "file").write_text("")
    with pytest.raises(SftbenchError, match="already exists") as error:
        planned_outputs(relative(1, 5), pair.out)
    assert error.value.where == str(taken)
    assert [path.name for path in pair.out.iterdir()] == [taken.name]
    (pair.base.parent / "file").write_text("")
    with pytest.raises(SftbenchError, match=r"cannot be made: .*/file is a file"):
        planned_outputs(
            [Restored("relative", Decimal(k)) for k in (1, 2)], pair.base.parent / "file"
        )


def test_a_run_that_was_stopped_goes_on(pair):
    write(pair, relative(5))
    first = pair.out / relative(5)[0].slug
    pair.out.rename(pair.out.with_name("moved"))
    first.parent.mkdir()
    pair.out.with_name("moved").rename(first)  # as if a run for two had written the first alone
    before = (first / "model.safetensors").stat().st_mtime_ns
    planning, paths = write(pair, relative(5, 20))
    assert (first / "model.safetensors").stat().st_mtime_ns == before
    assert paths[0] == first
    assert write_restored(planning, paths) == paths
    alone = plan_folders(pair.base, pair.tuned, relative(20))
    write_restored(alone, [pair.out.with_name("alone")])
    again = read_tensors(pair.out.with_name("alone"))
    assert all(torch.equal(read_tensors(paths[1])[name], again[name]) for name in again)


def test_a_folder_with_the_variant_of_other_models_is_left_alone(pair):
    write(pair, relative(5, 20))
    record = (pair.out / relative(20)[0].slug / "sftbench_variant.json").read_text()
    tuned = read_tensors(pair.tuned)
    save_file({**tuned, EMBEDDING: torch.ones(3)}, pair.tuned / "model.safetensors")
    with pytest.raises(SftbenchError, match="already exists"):
        write(pair, relative(1, 20))
    assert not (pair.out / relative(1)[0].slug).exists()  # found before anything is written
    assert (pair.out / relative(20)[0].slug / "sftbench_variant.json").read_text() == record


def test_room_is_asked_for_all_checkpoints_before_the_first(pair, monkeypatch):
    from sftbench.checkpoints import writer

    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(SftbenchError, match="the weights take 1,236 bytes, 1,000 are free"):
        write(pair, relative(1, 5, 20))
    assert not pair.out.exists()


def test_other_tokenizers_are_told(pair):
    (pair.tuned / "tokenizer.json").write_text('{"added_tokens": [{"id": 1}]}')
    planning, _ = write(pair, relative(20))
    assert planning.notes == (
        "The tokenizers differ: the contents of added_tokens differ. "
        "The variants take the tuned model's.",
    )


def test_a_resized_vocabulary_is_told_and_recorded(pair):
    tensors = read_tensors(pair.tuned)
    rows = torch.randn(5, 2)
    save_file({**tensors, EMBEDDING: rows}, pair.tuned / "model.safetensors")
    base = {**read_tensors(pair.base), EMBEDDING: rows[:3].clone()}
    save_file(base, pair.base / "model.safetensors")
    planning, _ = write(pair, relative(20))
    assert torch.equal(read_tensors(pair.out)[EMBEDDING], rows)
    (warning,) = planning.notes
    assert warning.startswith(f"The vocabulary was resized from 3 to 5 rows ({EMBEDDING}): the")
    assert json.loads((pair.out / "sftbench_variant.json").read_text())["notes"] == [warning]


def test_a_pair_that_does_not_fit_writes_nothing(pair):
    save_file({"model.layers.0.w": torch.ones(1)}, pair.tuned / "model.safetensors")
    with pytest.raises(SftbenchError, match=r"only .*base has model.embed_tokens.weight"):
        write(pair, relative(20))
    assert not pair.out.exists()


def test_the_commands_show_what_is_done(pair, monkeypatch):
    from typer.testing import CliRunner

    from sftbench.cli.restore import app

    monkeypatch.setenv("COLUMNS", "100")
    models = ["--base", str(pair.base), "--tuned", str(pair.tuned)]
    runner = CliRunner()
    plan = pair.out.parent / "plan.json"
    done = runner.invoke(
        app, ["plan", *models, "-c", "relative,random", "-p", "20%norm", "-o", str(plan)]
    )
    assert done.exit_code == 0, done.output
    assert "100 scalars, 0.0% unchanged, 0 zero in the base" in done.stdout
    assert "relative,20%norm" in done.stdout
    assert not pair.out.exists()
    written = json.loads(plan.read_text())
    assert [one["rule"] for one in written["variants"]] == ["relative,20%norm", "random,20%norm"]
    done = runner.invoke(app, ["apply", *models, "--percent", "100,10", "-o", str(pair.out)])
    assert done.exit_code == 0, done.output
    assert f"tuned+restore(relative,10%) -> {pair.out}/tuned+restore-relative-10pct" in done.stdout
    bad = runner.invoke(app, ["plan", *models, "--arithmetic", "fp8"])
    assert isinstance(bad.exception, SftbenchError)
    bad = runner.invoke(app, ["plan", *models, "-o", str(plan)])
    assert "already exists" in str(bad.exception)


def test_a_full_disk_is_an_error_that_leaves_nothing(pair, monkeypatch):
    import errno
    import os

    from sftbench.checkpoints import writer

    usage = SimpleNamespace(free=10)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(SftbenchError, match="the disk is full: the weights take 412 bytes, 10 are"):
        write(pair, relative(20))
    usage.free = 1 << 40

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writer, "_write_tensor", full)
    with pytest.raises(SftbenchError, match="the disk is full"):
        write(pair, relative(20))
    assert not pair.out.exists()
    assert not list(pair.out.parent.glob(".*"))


def test_a_place_where_no_folder_can_be_is_an_error_that_names_it(tmp_path):
    from sftbench.checkpoints.writer import write_checkpoint

    (tmp_path / "file").write_text("")
    with pytest.raises(SftbenchError, match=r"cannot be made: .*/file is a file"):
        write_checkpoint(tmp_path / "file" / "out", {}, like=tmp_path)
    assert (tmp_path / "file").read_text() == ""


def test_a_kill_while_writing_leaves_no_checkpoint(pair):
    """Killed between two tensors: nothing stands under the name; a new run is not hindered."""
    import subprocess
    import sys

    script = (
        "import os, sys, pathlib\n"
        "from decimal import Decimal\n"
        "from sftbench.checkpoints import restored_folders as r, writer\n"
        "from sftbench.checkpoints.rules import Restored\n"
        "base, tuned, out = map(pathlib.Path, sys.argv[1:])\n"
        "plan = r.plan_folders(base, tuned, [Restored('relative', Decimal(20))])\n"
        "first = writer._write_tensor\n"
        "def die(*a):\n"
        "    first(*a); a[0].flush(); os.kill(os.getpid(), 9)\n"
        "writer._write_tensor = die\n"
        "r.write_restored(plan, [out])\n"
    )
    command = [sys.executable, "-c", script, str(pair.base), str(pair.tuned), str(pair.out)]
    assert subprocess.run(command, check=False).returncode == -9
    assert not pair.out.exists()
    write(pair, relative(20))
    assert (pair.out / "model.safetensors").is_file()


def test_the_model_command_prints_one_folder(pair):
    import typer
    from typer.testing import CliRunner

    from sftbench.cli.models import model

    app = typer.Typer()
    app.command()(model)
    done = CliRunner().invoke(app, [str(pair.base)])
    assert done.stdout == f"{pair.base}\n"
