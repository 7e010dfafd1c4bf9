"""Tokenizers as files: what names them, when two are the same, and how a difference is told."""

from __future__ import annotations

import json

import pytest

from sftbench.checkpoints.tokenizers import (
    highest_token_id,
    same_tokenizer,
    tokenizer_difference,
    tokenizer_digest,
)
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

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


ADDED = {"id": 4, "content": "<|end|>", "special": True}
MORE = {"added_tokens": [*TOKENIZER["added_tokens"], ADDED]}


class TestDifferences:
    @pytest.fixture
    def make(self, tmp_path):
        def make(name, content=None, settings=None):
            path = tmp_path / name
            path.mkdir()
            (path / "tokenizer.json").write_text(json.dumps({**TOKENIZER, **(content or {})}))
            kept = {**SETTINGS, **(settings or {})}
            (path / "tokenizer_config.json").write_text(json.dumps(kept))
            return path

        return make

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"settings": {"chat_template": "{{ other }}"}}, "only the chat template differs"),
            (
                {"settings": {"chat_template": None}},
                "only the base has a chat template, the tuned has none",
            ),
        ],
    )
    def test_a_chat_template_is_no_other_tokenizer(self, make, change, words):
        base, tuned = make("base"), make("tuned", **change)
        assert same_tokenizer(base, tuned)
        assert tokenizer_difference(base, tuned) == words

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"content": MORE}, "the tuned tokenizer adds 1 token: <|end|>"),
            ({"content": {"added_tokens": [], "model": {**TOKENIZER["model"], "vocab": {"a": 1}}}},
             "the tuned lacks 3 tokens: <s>, b, ab"),
            ({"content": {"model": {**TOKENIZER["model"],
                                    "vocab": {"<s>": 0, "a": 2, "b": 1, "ab": 3}}}},
             "the ids of 2 tokens: a, b differ"),
            ({"content": {"pre_tokenizer": None}}, "other rules (pre_tokenizer)"),
            ({"content": {"model": {**TOKENIZER["model"], "merges": []}}}, "other rules (merges)"),
            ({"content": {"added_tokens": [{**TOKENIZER["added_tokens"][0], "lstrip": True}]}},
             "the tokens have other flags"),
            ({"settings": {"add_bos_token": True}},
             "add_bos_token is not set in the base and True in the tuned"),
            ({"content": MORE, "settings": {"chat_template": "{{ x }}", "eos_token": "<|end|>"}},
             "the tuned tokenizer adds 1 token: <|end|>; eos_token is not set in the base and "
             "<|end|> in the tuned; the chat template differs"),
        ],
    )  # fmt: skip
    def test_what_differs_is_told(self, make, change, words):
        base, tuned = make("base"), make("tuned", **change)
        assert not same_tokenizer(base, tuned)
        assert tokenizer_difference(base, tuned) == words

    def test_many_tokens_are_counted(self, make):
        tokens = [{"id": 4 + i, "content": f"<{i}>"} for i in range(5)]
        added = {"added_tokens": [*TOKENIZER["added_tokens"], *tokens]}
        assert tokenizer_difference(make("base"), make("tuned", added)) == (
            "the tuned tokenizer adds 5 tokens: <0>, <1>, <2> and 2 more"
        )

    def test_the_same(self, make):
        base, tuned = make("base"), make("tuned")
        assert same_tokenizer(base, tuned)
        assert tokenizer_difference(base, tuned) is None

    def test_other_kinds_of_files(self, make, tmp_path):
        old = tmp_path / "old"
        old.mkdir()
        (old / "tokenizer.model").write_bytes(b"x")
        assert not same_tokenizer(old, make("new"))
        assert tokenizer_difference(old, tmp_path / "new").startswith(
            "the base's is stored as tokenizer.model and the tuned model's as tokenizer.json, which"
        )

    def test_the_highest_id(self, make, tmp_path):
        assert highest_token_id(make("base")) == 3
        assert highest_token_id(make("tuned", MORE)) == 4
        unigram = {
            "added_tokens": [],
            "model": {"type": "Unigram", "vocab": [["a", -1], ["b", -2]]},
        }
        assert highest_token_id(make("unigram", unigram)) == 1
        (tmp_path / "old").mkdir()
        assert highest_token_id(tmp_path / "old") is None
        (tmp_path / "old" / "vocab.json").write_text('{"a": 0, "b": 1}')
        (tmp_path / "old" / "added_tokens.json").write_text('{"c": 2}')
        assert highest_token_id(tmp_path / "old") == 2

    def test_odd_contents_are_told_and_not_a_crash(self, make):
        odd = make("odd", {"added_tokens": [3, {"id": "x"}], "model": [1]})
        assert (
            tokenizer_difference(make("base"), odd) == "the contents of added_tokens, model differ"
        )
        assert highest_token_id(odd) is None
