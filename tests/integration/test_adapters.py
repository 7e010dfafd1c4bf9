"""Adapters merged into the lab model: what peft answers beside the base, the merged folder does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from lab_adapters import LAB, lab_model, logits_of, lora, save_adapter
from two_models import relative

from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.folder import open_checkpoint
from sftbench.checkpoints.merging import merged
from sftbench.checkpoints.names import name_of
from sftbench.checkpoints.restored_folders import plan_folders, write_restored
from sftbench.checkpoints.tokenizers import same_tokenizer, tokenizer_difference
from sftbench.checkpoints.vocabulary import vocabulary_change
from sftbench.checkpoints.weights import read_tensors, tensor_headers
from sftbench.common.errors import SftbenchError
from sftbench.harness.choose import base_digests

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SFTBENCH_CACHE", str(tmp_path / "cache"))


def logits_of_folder(path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    return logits_of(model)


def assert_same_model(folder, expected):
    assert expected.std() > 0.5
    torch.testing.assert_close(logits_of_folder(folder), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_dora": True},
        {"use_rslora": True, "lora_alpha": 16},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 32}},
        {"modules_to_save": ["embed_tokens", "lm_head"]},
        {"modules_to_save": ["embed_tokens"]},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        {"target_modules": ["embed_tokens", "v_proj"]},
        {"target_modules": ["lm_head", "v_proj"]},
        {"target_modules": "all-linear"},
        {"trainable_token_indices": [5, 6, 7]},
        {"init_lora_weights": "pissa"},
        {"modules_to_save": ["norm"]},
    ],
    ids=str,
)
def test_the_merged_folder_answers_as_peft_does(tmp_path, settings):
    expected = save_adapter(tmp_path / "adapter", lora(**settings))
    path = merged(tmp_path / "adapter", LAB)
    assert_same_model(path, expected)
    assert not torch.allclose(logits_of_folder(LAB), expected, atol=1e-2)
    assert {header.dtype for header in tensor_headers(path).values()} == {"F32"}
    assert same_tokenizer(LAB, path)


def test_a_tied_head_is_stored_once_and_one_of_its_own_is_untied(tmp_path):
    save_adapter(tmp_path / "plain", lora())
    save_adapter(tmp_path / "head", lora(modules_to_save=["lm_head"]))
    plain, head = (merged(tmp_path / name, LAB) for name in ("plain", "head"))
    assert tensor_headers(plain).keys() == tensor_headers(LAB).keys()
    assert tensor_headers(head).keys() - tensor_headers(LAB).keys() == {"lm_head.weight"}
    base, *others = (open_checkpoint(path).config for path in (LAB, plain, head))
    assert others[0] == {**base, "dtype": "float32"}
    assert others[1] == {**base, "dtype": "float32", "tie_word_embeddings": False}


def test_what_was_trained_is_all_that_changes(tmp_path):
    save_adapter(tmp_path / "adapter", lora())
    before, after = read_tensors(LAB), read_tensors(merged(tmp_path / "adapter", LAB))
    changed = {name for name in before if not torch.equal(before[name].float(), after[name])}
    assert changed == {n for n in before if "q_proj" in n or "down_proj" in n}


def test_an_adapter_in_half_precision_is_merged_in_fp32(tmp_path):
    expected = save_adapter(
        tmp_path / "adapter", lora(modules_to_save=["embed_tokens"]), dtype=torch.bfloat16
    )
    headers = tensor_headers_of_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {header.dtype for header in headers.values()} == {"BF16"}
    assert_same_model(merged(tmp_path / "adapter", LAB), expected)


def tensor_headers_of_file(file):
    from sftbench.checkpoints.weights import file_headers

    return file_headers(file)


@pytest.mark.parametrize("target", ["q_proj", "embed_tokens"])
def test_added_tokens_come_with_their_rows_and_their_tokenizer(tmp_path, target):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(LAB)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|end|>"]})
    tokenizer.chat_template = "{{ messages[0].content }}<|end|>"
    adapter = tmp_path / "adapter"
    tokenizer.save_pretrained(adapter)
    expected = save_adapter(
        adapter, lora(target_modules=[target]), rows=3002, save_embedding_layers=True
    )
    path = merged(adapter, LAB)
    assert_same_model(path, expected)
    assert open_checkpoint(path).config["vocab_size"] == 3002
    assert AutoTokenizer.from_pretrained(path)("<|end|>").input_ids[-1] == 3001
    assert not same_tokenizer(LAB, path)
    assert tokenizer_difference(LAB, path).startswith(
        "the tuned tokenizer adds 2 tokens: <|user|>, <|end|>"
    )
    change = vocabulary_change(LAB, path)
    assert (change.before, change.after) == (3000, 3002)
    planning = plan_folders(LAB, path, relative(20))
    write_restored(planning, [tmp_path / "restored"])
    assert any("resized from 3,000 to 3,002 rows" in text for text in planning.notes)
    assert logits_of_folder(tmp_path / "restored").shape[-1] == 3002


def test_it_is_made_once_and_says_what_it_is(tmp_path):
    adapter = tmp_path / "my-adapter"
    save_adapter(adapter, lora())
    path = merged(adapter, LAB)
    state = (path / "model.safetensors").stat()
    assert merged(adapter, LAB) == path
    assert (path / "model.safetensors").stat() == state
    assert [folder.name for folder in path.parent.iterdir()] == [path.name]
    record = json.loads((path / "sftbench_variant.json").read_text())
    assert record["kind"] == "merged adapter"
    assert record["adapter"]["peft_type"] == "LORA"
    assert record["base"]["digest"] == record["base_digest"] == checkpoint_digest(LAB)
    assert name_of(path) == "my-adapter on sftbench-lab"
    assert base_digests(str(path))[0] == checkpoint_digest(LAB)
    save_adapter(adapter, lora(r=2))
    assert merged(adapter, LAB) != path


def rewrite(adapter, change):
    from safetensors.torch import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)


def refused(adapter, base=LAB):
    with pytest.raises(SftbenchError) as error:
        merged(adapter, base)
    cache = adapter.parent / "cache" / "merged"
    assert not cache.exists() or not list(cache.iterdir())
    return str(error.value)


@pytest.fixture
def adapter(tmp_path):
    save_adapter(tmp_path / "adapter", lora())
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "org/base"
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    return tmp_path / "adapter"


def other_model(folder, **changes):
    """Write a model like the lab's, with other sizes."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(LAB, **changes)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    shutil.copyfile(LAB / "tokenizer.json", folder / "tokenizer.json")
    return folder


def test_an_adapter_for_wider_layers(adapter, tmp_path):
    base = other_model(tmp_path / "narrow", hidden_size=48, num_attention_heads=3, head_dim=16)
    message = refused(adapter, base)
    assert message.startswith(f"{adapter}: the adapter does not fit this base (size mismatch for ")
    assert message.endswith("\nName the base that the adapter was trained on.")


@pytest.mark.parametrize(
    ("layers", "what"),
    [
        (
            2,
            "the base has no place for 4 of the adapter's tensors: base_model.model.model.layers.",
        ),
        (4, "4 tensors that its settings ask for are not in the adapter: base_model.model.model."),
    ],
)
def test_an_adapter_for_a_base_of_other_depth(adapter, tmp_path, layers, what):
    base = other_model(tmp_path / "other", num_hidden_layers=layers)
    assert refused(adapter, base).startswith(f"{adapter}/adapter_model.safetensors: {what}")


def test_an_adapter_for_layers_of_other_names(adapter):
    settings = json.loads((adapter / "adapter_config.json").read_text())
    settings["target_modules"] = ["query_key_value"]
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    assert "the adapter does not fit this base (Target modules" in refused(adapter)


def test_an_adapter_that_is_not_finite(adapter):
    rewrite(adapter, lambda tensors: {n: t * torch.nan for n, t in tensors.items()})
    message = refused(adapter)
    assert message.startswith(f"{adapter}/adapter_model.safetensors: the tensor base_model.model.")
    assert "NaN or infinite" in message


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"peft_type": "NOVEL"}, "knows no adapters of type NOVEL"),
        ({"task_type": "SEQ_CLS"}, "is for the task SEQ_CLS, not for a causal language model"),
        ({"task_type": "COOKING"}, "cannot read these settings (Invalid task type: 'COOKING'"),
        ({"r": 0}, "does not fit this base"),
        ({"r": "many"}, "does not fit this base"),
    ],
)
def test_settings_that_peft_cannot_use(adapter, changes, what):
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, **changes}))
    assert what in refused(adapter)


def test_what_is_no_change_of_weights_cannot_be_merged(tmp_path):
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    get_peft_model(lab_model(), config).save_pretrained(tmp_path / "adapter")
    assert refused(tmp_path / "adapter") == (
        f"{tmp_path}/adapter: an adapter of type PROMPT_TUNING cannot be merged into a base: it "
        "adds to the prompt or to the cache, not to the weights\n"
        "Restore and compare work on weights: use an adapter that merges, such as LoRA."
    )


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"alora_invocation_tokens": [5, 6]}, "aLoRA does not support safe merging."),
        ({"lora_bias": True}, "Impossible to merge LoRA with `lora_bias=True`"),
    ],
)
def test_lora_that_peft_cannot_merge(tmp_path, settings, why):
    from peft import get_peft_model

    get_peft_model(lab_model(), lora(**settings)).save_pretrained(tmp_path / "adapter")
    assert f"an adapter of type LORA cannot be merged into a base: {why}" in refused(
        tmp_path / "adapter"
    )


def test_new_tokens_whose_rows_were_not_saved(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(LAB)
    tokenizer.add_tokens(["<|new|>"])
    adapter = tmp_path / "adapter"
    tokenizer.save_pretrained(adapter)
    save_adapter(adapter, lora(), rows=3001, save_embedding_layers=False)
    assert refused(adapter).startswith(
        f"{adapter}: the adapter's tokenizer gives ids up to 3,000, and there are 3,000 embedding "
        "rows: those of its new tokens were not saved\n"
    )


def test_an_embedding_adapter_without_the_rows_it_is_added_to(tmp_path):
    adapter = tmp_path / "adapter"
    save_adapter(
        adapter, lora(target_modules=["embed_tokens"]), rows=3001, save_embedding_layers=False
    )
    assert refused(adapter).startswith(
        f"{adapter}/adapter_model.safetensors: the adapter was trained with 3,001 embedding rows "
        "where the base has 3,000, and it does not hold the new ones\n"
    )


@pytest.fixture
def command(monkeypatch, capsys):
    """Return what runs a command and gives exit code, standard output and standard error."""
    import sys

    from sftbench.cli.app import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sftbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return run


def test_restore_takes_an_adapter_and_finds_its_base(tmp_path, command):
    adapter, out = tmp_path / "adapter", tmp_path / "out"
    save_adapter(adapter, lora())
    code, said, _ = command("restore", "apply", "--tuned", adapter, "--percent", "5", "-o", out)
    assert code in (0, None)
    assert f"The base is {LAB}, by adapter_config.json." in said
    assert f"The tuned model is an adapter (LORA, rank 4) for {LAB}; it is merged into" in said
    record = json.loads((out / "sftbench_variant.json").read_text())
    assert record["base_digest"] == checkpoint_digest(LAB)
    assert record["tuned"]["digest"] == checkpoint_digest(merged(adapter, LAB))


def test_the_model_command_merges_and_prints_one_folder(tmp_path, command):
    adapter = tmp_path / "adapter"
    save_adapter(adapter, lora())
    code, said, aside = command("model", adapter, "--base", "lab")
    assert code in (0, None)
    assert Path(said.strip()) == merged(adapter, LAB)
    assert "merged into the base in fp32" in aside
