"""Digests: what names a model, what does not, and when a kept digest is trusted."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from sftbench.checkpoints import digest as digest_module
from sftbench.checkpoints.digest import checkpoint_digest, folders_of_digest
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

LONG_AGO = 1_600_000_000 * 10**9


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "digests"


def tensors():
    return {
        "a": torch.arange(6, dtype=torch.float32).view(2, 3),
        "b": torch.arange(4, dtype=torch.bfloat16),
        "c": torch.tensor(1.5),
    }


def write(path, content, metadata=None):
    path.mkdir(parents=True, exist_ok=True)
    save_file(content, path / "model.safetensors", metadata=metadata)
    return path


def write_shards(path, *shards):
    path.mkdir()
    weight_map = {}
    for i, shard in enumerate(shards):
        save_file(shard, path / f"model-{i}.safetensors")
        weight_map.update(dict.fromkeys(shard, f"model-{i}.safetensors"))
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return path


class TestWhatNamesAModel:
    def test_the_digest_is_fixed(self, tmp_path):
        """A digest stands in cards and records, so it must never change by itself."""
        path = write(tmp_path / "m", tensors())
        assert checkpoint_digest(path) == "7a10bc91deaf3a7c3aa97a064949cd06"

    def test_folder_shards_and_file_metadata_do_not_count(self, tmp_path):
        t = tensors()
        same = [
            write(tmp_path / "one", t),
            write(tmp_path / "two", t, {"format": "pt", "made": "today"}),
            write_shards(tmp_path / "three", {"c": t["c"], "a": t["a"]}, {"b": t["b"]}),
            write_shards(tmp_path / "four", {"a": t["a"]}, {"b": t["b"], "c": t["c"]}),
        ]
        assert len({checkpoint_digest(path) for path in same}) == 1

    @pytest.mark.parametrize(
        "edit",
        [
            {"a": torch.arange(6, dtype=torch.float32).view(3, 2)},
            {"a": torch.arange(6, dtype=torch.float32).view(2, 3) + 1e-6},
            {"a": torch.arange(6, dtype=torch.float64).view(2, 3)},
            {"b": torch.arange(4, dtype=torch.float16)},
            {"c": torch.tensor([1.5])},
            {"d": torch.tensor(0.0)},
            {"c": torch.tensor(-1.5)},
        ],
    )
    def test_name_shape_dtype_and_content_count(self, tmp_path, edit):
        plain = checkpoint_digest(write(tmp_path / "plain", tensors()))
        assert checkpoint_digest(write(tmp_path / "edited", {**tensors(), **edit})) != plain

    def test_swapped_names_count(self, tmp_path):
        t = {"a": torch.zeros(2), "b": torch.ones(2)}
        one = checkpoint_digest(write(tmp_path / "one", t))
        assert checkpoint_digest(write(tmp_path / "two", {"a": t["b"], "b": t["a"]})) != one


class TestKeptDigests:
    @pytest.fixture
    def reads(self, monkeypatch):
        """Count how often the content is really read."""
        count = []
        read = digest_module._digest_of_tensors
        monkeypatch.setattr(
            digest_module, "_digest_of_tensors", lambda path: count.append(path) or read(path)
        )
        monkeypatch.setattr(digest_module, "SETTLED_SECONDS", -1.0)
        return count

    def test_a_second_call_reads_no_content(self, tmp_path, reads):
        path = write(tmp_path / "m", tensors())
        assert checkpoint_digest(path) == checkpoint_digest(path)
        assert len(reads) == 1

    def test_an_edit_of_equal_size_and_mtime_is_seen(self, tmp_path, reads):
        path = write(tmp_path / "m", tensors())
        file = path / "model.safetensors"
        os.utime(file, ns=(LONG_AGO, LONG_AGO))
        before = checkpoint_digest(path)
        raw = bytearray(file.read_bytes())
        raw[-1] ^= 1
        file.write_bytes(raw)
        os.utime(file, ns=(LONG_AGO, LONG_AGO))
        assert checkpoint_digest(path) != before
        assert len(reads) == 2

    def test_any_shard_counts(self, tmp_path, reads):
        t = tensors()
        path = write_shards(tmp_path / "m", {"a": t["a"]}, {"b": t["b"], "c": t["c"]})
        before = checkpoint_digest(path)
        save_file({"b": t["b"], "c": t["c"] + 1}, path / "model-1.safetensors")
        assert checkpoint_digest(path) != before

    def test_another_model_under_the_same_name_is_seen(self, tmp_path, reads):
        path = write(tmp_path / "m", tensors())
        before = checkpoint_digest(path)
        path.rename(tmp_path / "old")
        write(path, {**tensors(), "c": torch.tensor(2.5)})
        assert checkpoint_digest(path) != before

    @pytest.mark.parametrize("broken", ["", "{", "[]", '{"files": 1}', '{"digest": "x"}'])
    def test_a_broken_entry_is_made_again(self, tmp_path, reads, cache, broken):
        path = write(tmp_path / "m", tensors())
        before = checkpoint_digest(path)
        (entry,) = cache.iterdir()
        entry.write_text(broken)
        assert checkpoint_digest(path) == before
        assert len(reads) == 2

    def test_a_cache_that_cannot_be_written_is_no_error(self, tmp_path, reads, monkeypatch):
        (tmp_path / "file").write_text("")
        path = write(tmp_path / "m", tensors())
        before = checkpoint_digest(path)
        monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "file"))
        assert checkpoint_digest(path) == before

    def test_files_that_were_just_written_are_not_kept(self, tmp_path, cache):
        checkpoint_digest(write(tmp_path / "m", tensors()))
        assert not cache.exists()

    def test_files_that_change_meanwhile_are_an_error(self, tmp_path, monkeypatch):
        path = write(tmp_path / "m", tensors())

        def read_and_edit(path):
            write(path, {"a": torch.zeros(1)})
            return "digest"

        monkeypatch.setattr(digest_module, "_digest_of_tensors", read_and_edit)
        with pytest.raises(SftbenchError, match="the weights changed while they were read"):
            checkpoint_digest(path)


class TestFoldersOfADigest:
    @pytest.fixture(autouse=True)
    def _kept_at_once(self, monkeypatch):
        monkeypatch.setattr(digest_module, "SETTLED_SECONDS", -1.0)

    def test_copies_are_found_wherever_they_lie(self, tmp_path):
        one, two = (write(tmp_path / name, tensors()) for name in ("one", "two"))
        digest = checkpoint_digest(one)
        assert folders_of_digest(digest) == [one]
        checkpoint_digest(two)
        assert sorted(folders_of_digest(digest)) == [one, two]
        assert folders_of_digest("0" * 32) == []

    def test_what_was_changed_or_removed_is_not(self, tmp_path, cache):
        gone, changed = (write(tmp_path / name, tensors()) for name in ("gone", "changed"))
        digest = checkpoint_digest(gone)
        checkpoint_digest(changed)
        (gone / "model.safetensors").unlink()
        write(changed, {**tensors(), "c": torch.tensor(2.5)})
        (cache / "broken.json").write_text("[]")
        assert folders_of_digest(digest) == []
