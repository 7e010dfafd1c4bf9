"""Digests: what names a model and a tokenizer, what does not, and when a kept digest is trusted."""

from __future__ import annotations

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from sftbench.checkpoints import digest as digest_module
from sftbench.checkpoints.digest import checkpoint_digest, tokenizer_digest
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


TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [{"id": 0, "content": "<s>", "special": True}],
    "pre_tokenizer": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3}, "merges": ["a b"]},
}
SETTINGS = {"bos_token": "<s>", "chat_template": "{{ messages }}", "tokenizer_class": "X"}


class TestTokenizers:
    def make(self, path, content=None, settings=None, **files):
        path.mkdir()
        (path / "tokenizer.json").write_text(json.dumps({**TOKENIZER, **(content or {})}))
        kept = {**SETTINGS, **(settings or {})}
        (path / "tokenizer_config.json").write_text(json.dumps(kept))
        for name, text in files.items():
            (path / name.replace("__", ".")).write_text(text)
        return tokenizer_digest(path)

    @pytest.mark.parametrize(
        "change",
        [
            {"content": {"truncation": {"max_length": 8}, "padding": {"pad_id": 0}}},
            {"content": {"model": {**TOKENIZER["model"], "merges": [["a", "b"]]}}},
            {
                "content": {
                    "model": {**TOKENIZER["model"], "byte_fallback": False, "unk_token": None}
                }
            },
            {"settings": {"bos_token": {"content": "<s>", "lstrip": False}}},
            {"settings": {"padding_side": "left", "pad_token": "</s>", "tokenizer_class": "Y"}},
            {"settings": {"chat_template": None}, "chat_template__jinja": "{{ messages }}"},
            {"settings": {"add_bos_token": False}},
        ],
    )
    def test_what_saving_again_changes_does_not_count(self, tmp_path, change):
        assert self.make(tmp_path / "b", **change) == self.make(tmp_path / "a")

    @pytest.mark.parametrize(
        "change",
        [
            {"content": {"added_tokens": []}},
            {"content": {"pre_tokenizer": None}},
            {"content": {"model": {**TOKENIZER["model"], "vocab": {"<s>": 0, "a": 2, "b": 1}}}},
            {"content": {"model": {**TOKENIZER["model"], "merges": []}}},
            {"settings": {"chat_template": "{{ other }}"}},
            {"settings": {"add_bos_token": True}},
            {"settings": {"bos_token": "a"}},
            {"chat_template__jinja": "{{ other }}"},
        ],
    )
    def test_what_decides_ids_and_text_counts(self, tmp_path, change):
        assert self.make(tmp_path / "b", **change) != self.make(tmp_path / "a")

    def test_without_tokenizer_json_the_tables_count(self, tmp_path):
        (tmp_path / "vocab.json").write_text("{}")
        (tmp_path / "merges.txt").write_text("a b")
        one = tokenizer_digest(tmp_path)
        (tmp_path / "merges.txt").write_text("b a")
        assert tokenizer_digest(tmp_path) != one

    def test_no_tokenizer(self, tmp_path):
        with pytest.raises(SftbenchError, match="there is no tokenizer"):
            tokenizer_digest(tmp_path)
