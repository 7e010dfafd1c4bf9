"""The base of a tuned model as its own files name it, and base and tuned found together."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sftbench.checkpoints import digest as digest_module
from sftbench.checkpoints import lineage
from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.lineage import Lineage, find_base, search_base
from sftbench.checkpoints.pair import find_pair
from sftbench.checkpoints.reference import resolve
from sftbench.common.errors import SftbenchError
from sftbench.recipes.record import RECORD_FILE

pytestmark = pytest.mark.unit

SOURCES = ("sftbench_recipe.json", "sftbench_variant.json", "adapter_config.json", "README.md")
CARD = "the model card's base_model"


@pytest.fixture(autouse=True)
def _own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digest_module, "SETTLED_SECONDS", -1.0)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def make_model(path, value=1.0):
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "tokenizer.json").write_text("{}")
    save_file({"model.layers.0.w": torch.full((4,), value)}, path / "model.safetensors")
    return path


@pytest.fixture
def tuned(tmp_path):
    return make_model(tmp_path / "tuned", 2.0)


def write(folder, name, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")


def card(front, rest="# A model\n\nbase_model: not/this\n"):
    return f"---\n{front}\n---\n{rest}"


def test_the_record_is_the_one_that_finetune_writes():
    assert lineage.RECIPE_RECORD == RECORD_FILE


def test_nothing_names_a_base(tuned):
    assert search_base(tuned) == lineage.Search(None, ())


class TestRecords:
    @pytest.mark.parametrize("name", SOURCES[:2])
    def test_a_folder_with_these_tensors_is_found_whatever_it_is_called(
        self, tuned, tmp_path, name
    ):
        base = make_model(tmp_path / "moved" / "elsewhere")
        digest = checkpoint_digest(base)
        write(tuned, name, {"base_name": "old/name", "base_digest": digest})
        found = find_base(tuned)
        assert (found.ref, found.digest, found.revision) == (str(base), digest, None)
        assert found.source == f"its {'recipe' if 'recipe' in name else 'variant'} record"

    def test_a_short_name_is_named_as_such(self, tuned):
        digest = checkpoint_digest(resolve("lab"))
        write(tuned, SOURCES[0], {"base_name": "anything", "base_digest": digest})
        assert find_base(tuned).ref == "lab"

    @pytest.mark.parametrize(
        ("written", "ref"),
        [
            ("SmolLM2-135M-Instruct", "smollm2"),
            ("sftbench-lab", "lab"),
            ("org/name@" + "a" * 40, "org/name@" + "a" * 40),
        ],
    )
    def test_without_such_a_folder_the_name_serves(self, tuned, written, ref):
        write(tuned, SOURCES[0], {"base_name": written, "base_digest": "0" * 32})
        assert find_base(tuned) == Lineage(ref, "its recipe record", digest="0" * 32)

    def test_a_name_that_nobody_knows_is_passed_over_with_a_reason(self, tuned):
        write(tuned, SOURCES[0], {"base_name": "my-base", "base_digest": "0" * 32})
        write(tuned, "README.md", card("base_model: org/name"))
        assert search_base(tuned) == lineage.Search(
            Lineage("org/name", CARD),
            ("sftbench_recipe.json names my-base (digest 000000000000), which is not found here.",),
        )

    def test_a_changed_base_is_not_taken_for_the_one_that_was_tuned(self, tuned, tmp_path):
        base = make_model(tmp_path / "base")
        digest = checkpoint_digest(base)
        save_file({"model.layers.0.w": torch.zeros(4)}, base / "model.safetensors")
        write(tuned, SOURCES[1], {"base": {"path": str(base)}, "base_digest": digest})
        assert find_base(tuned).ref == str(base)
        with pytest.raises(SftbenchError) as error:
            find_pair(str(tuned))
        assert error.value.what == (
            f"the base {base}, by its variant record, has other weights than were tuned (digest "
            f"{checkpoint_digest(base)[:12]} in place of {digest[:12]})"
        )


class TestAdapters:
    def test_name_and_revision(self, tuned):
        write(tuned, SOURCES[2], {"base_model_name_or_path": "org/name", "revision": "v1"})
        assert find_base(tuned) == Lineage("org/name", "adapter_config.json", revision="v1")
        assert find_base(tuned).words == "the base is org/name@v1, by adapter_config.json"

    def test_a_folder_that_is_here(self, tuned, tmp_path):
        make_model(tmp_path / "here" / "models" / "base")
        write(tuned, SOURCES[2], {"base_model_name_or_path": "models/base", "revision": "main"})
        found = find_base(tuned)
        assert found == Lineage(str(tmp_path / "here" / "models" / "base"), "adapter_config.json")

    def test_a_folder_of_another_machine(self, tuned):
        write(tuned, SOURCES[2], {"base_model_name_or_path": "/data/models/base"})
        assert search_base(tuned).ignored == (
            "base_model_name_or_path is '/data/models/base', which is no folder here and no hub "
            "id.",
        )


class TestModelCards:
    @pytest.mark.parametrize(
        "front",
        [
            "base_model: org/name",
            "base_model: [org/name]",
            "license: mit\nbase_model:\n- org/name\nbase_model_relation: finetune\ntags: [a]",
            "base_model: org/name\nbase_model_relation: adapter",
            '"base_model": "org/name"',
        ],
    )
    def test_what_names_a_base(self, tuned, front):
        write(tuned, "README.md", card(front))
        assert search_base(tuned) == lineage.Search(Lineage("org/name", CARD), ())

    def test_line_ends_and_a_byte_order_mark_do_not_matter(self, tuned):
        text = "\ufeff" + card("base_model: org/name").replace("\n", "\r\n")
        (tuned / "README.md").write_bytes(text.encode("utf-8"))
        assert find_base(tuned).ref == "org/name"

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (card("base_model: [org/a, org/b]"), "The model card names 2 base models; which one"),
            (card("base_model: []"), "The model card names 0 base models"),
            (card("base_model: org/a\nbase_model_relation: quantized"),
             "The model card's base_model is not what was tuned: its relation is 'quantized'."),
            (card("base_model: 7"), "base_model is 7, which is no name."),
            (card("base_model: 2024-01-01"), "base_model is datetime.date(2024, 1, 1), which is"),
            (card("base_model: {a: b}"), "base_model is {'a': 'b'}, which is no name."),
            (card("base_model: just-a-name"),
             "base_model is 'just-a-name', which is no folder here and no hub id."),
            (card("base_model: ../../secret"), "base_model is '../../secret', which is no folder"),
            (card("base_model: [org/name"), "The front matter of README.md is not valid YAML."),
            (card("x: !!python/object/apply:os.system [ls]\nbase_model: org/name"),
             "The front matter of README.md is not valid YAML."),
            (card("a: " + "[" * 5000), "The front matter of README.md is not valid YAML."),
            (card("- base_model"), "The front matter of README.md has no keys."),
            ("---\nbase_model: org/name\n", "The front matter of README.md has no end."),
        ],
    )  # fmt: skip
    def test_what_does_not_is_passed_over_with_a_reason(self, tuned, text, reason):
        write(tuned, "README.md", text)
        search = search_base(tuned)
        assert search.found is None
        (said,) = search.ignored
        assert said.startswith(reason)

    @pytest.mark.parametrize(
        "text",
        ["", "# A model\n", card(""), card("license: mit"), card("base_model:"), "--- x\n---\n"],
    )
    def test_what_says_nothing_is_no_reason(self, tuned, text):
        write(tuned, "README.md", text)
        assert search_base(tuned) == lineage.Search(None, ())

    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    def test_no_card_is_an_error(self, tuned, content):
        (tuned / "README.md").write_bytes(b"---\n" + content + b"\n---\n")
        search_base(tuned)


@pytest.mark.parametrize("name", SOURCES[:3])
@pytest.mark.parametrize("content", ["{", "[]", "3", "\x00", "[" * 5000])
def test_broken_files_are_passed_over(tuned, name, content):
    write(tuned, name, content)
    write(tuned, "README.md", card("base_model: org/name"))
    search = search_base(tuned)
    assert search.found.ref == "org/name"
    assert search.ignored[0].startswith(name)


def test_the_order_of_trust(tuned, tmp_path):
    """Records of our own, then the adapter's settings, then the card; the first usable serves."""
    write(tuned, "README.md", card("base_model: org/card"))
    write(tuned, SOURCES[2], {"base_model_name_or_path": "org/adapter"})
    assert find_base(tuned).ref == "org/adapter"
    write(tuned, SOURCES[1], {"base_digest": "1" * 32, "base": {"path": "org/variant"}})
    assert find_base(tuned).ref == "org/variant"
    write(tuned, SOURCES[0], {"base_digest": "0" * 32, "base_name": "org/recipe"})
    assert find_base(tuned).ref == "org/recipe"


class TestPairs:
    def test_the_base_is_found_and_said(self, tuned, tmp_path):
        base = make_model(tmp_path / "base")
        write(tuned, SOURCES[0], {"base_name": "base", "base_digest": checkpoint_digest(base)})
        pair = find_pair(str(tuned))
        assert (pair.base, pair.tuned) == (base, tuned)
        assert (pair.base_name, pair.tuned_name) == (str(base), str(tuned))
        assert pair.notes == (f"The base is {base}, by its recipe record.",)

    def test_a_named_base_is_not_looked_for(self, tuned, tmp_path):
        write(tuned, "README.md", card("base_model: org/name"))
        pair = find_pair(str(tuned), "lab")
        assert (pair.base_name, pair.notes) == ("lab", ())

    def test_a_base_that_nothing_names(self, tuned):
        write(tuned, "README.md", card("base_model: 7"))
        with pytest.raises(SftbenchError) as error:
            find_pair(str(tuned))
        assert str(error.value) == (
            f"{tuned}: the base of this model is not named, and its files do not say it "
            "(base_model is 7, which is no name.)\nName the base with --base."
        )
