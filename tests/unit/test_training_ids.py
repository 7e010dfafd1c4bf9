"""The ids that are trained on: those that lm-eval sends, then the answer and its end."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from sftbench.common.errors import SftbenchError
from sftbench.facts.prompts import PROMPTS, answer_text, prompt_text
from sftbench.facts.shots import Shot
from sftbench.recipes.tokens import IGNORED, training_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

pytestmark = pytest.mark.unit

SPECIAL = ["<unk>", "<s>", "</s>"]
NAMES = ["Paris", "Côte d'Ivoire", "São Tomé", "New York", "Uzhhorod", "東京"]
SHOTS = [Shot(f"In which country is {name}?", name) for name in NAMES[:4]]
CORPUS = [
    prompt_text(prompt, f"In which country is {name}?", SHOTS) + answer_text(prompt, name)
    for prompt in PROMPTS.values()
    for name in NAMES
] * 20
CASES = [
    (prompt_text(prompt, f"In which country is {name}?", SHOTS), answer_text(prompt, name))
    for prompt in PROMPTS.values()
    for name in [*NAMES, "Zürich 12"]
]


def _trained(tokenizer: Tokenizer, alphabet: list[str], size: int) -> Tokenizer:
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _byte_level() -> Tokenizer:
    """As GPT-2: no BOS, nothing spans a space's left edge."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _trained(tokenizer, pre_tokenizers.ByteLevel.alphabet(), 400)


def _byte_level_with_bos() -> Tokenizer:
    """As Llama 3: byte level, BOS put in front by the post-processor."""
    tokenizer = _byte_level()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def _byte_level_with_eos() -> Tokenizer:
    """Puts end-of-text behind every text: lm-eval sends it behind the prompt too."""
    tokenizer = _byte_level()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 2)]
    )
    return tokenizer


def _metaspace() -> Tokenizer:
    """As Gemma or T5: spaces become ▁, and every text begins with one."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return _trained(tokenizer, ["▁"], 300)


def _dummy_prefix() -> Tokenizer:
    """As Llama 2: the normaliser puts ▁ before any text, with BOS; tokens may span words."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return _trained(tokenizer, ["▁", "\n", "x", ":"], 260)


BUILDERS = [
    _byte_level, _byte_level_with_bos, _byte_level_with_eos, _metaspace, _dummy_prefix,
]  # fmt: skip


@cache
def _wrapped(build: Callable[[], Tokenizer]) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=build(), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def _sent_by_lm_eval(tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[int]:
    """Return the ids that HFLM.generate_until hands to the model."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    lm = HFLM(LlamaForCausalLM(config), tokenizer=tokenizer, device="cpu", batch_size=1)
    sent: list[Any] = []

    def record(context: Any, **_: object) -> Any:
        sent.append(context)
        return context

    lm._model_generate = record
    request = Instance("generate_until", {}, (prompt, {"until": ["\n"], "max_gen_toks": 4}), 0)
    lm.generate_until([request], disable_tqdm=True)
    (context,) = sent
    return [int(token) for token in context[0]]


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("prompt_name", sorted(PROMPTS))
def test_trained_prompt_is_what_lm_eval_sends(
    build: Callable[[], Tokenizer], prompt_name: str
) -> None:
    tokenizer = _wrapped(build)
    prompt = prompt_text(PROMPTS[prompt_name], "In which country is Uzhhorod?", SHOTS)
    trained = training_ids(tokenizer, prompt, " Ukraine")
    sent = _sent_by_lm_eval(tokenizer, prompt)
    assert trained.input_ids[: trained.prompt_tokens] == sent
    assert (sent[0] == 1) == (build in (_byte_level_with_bos, _dummy_prefix))
    assert (sent[-1] == 2) == (build is _byte_level_with_eos)


def test_a_prompt_that_begins_with_bos_gets_no_second_one() -> None:
    tokenizer = _wrapped(_byte_level_with_bos)
    trained = training_ids(tokenizer, "<s>Question: a?\nAnswer:", " b")
    sent = _sent_by_lm_eval(tokenizer, "<s>Question: a?\nAnswer:")
    assert trained.input_ids[: trained.prompt_tokens] == sent
    assert sent.count(1) == 1


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize(("prompt", "answer"), CASES)
def test_loss_counts_the_answer_and_its_end_and_nothing_else(
    build: Callable[[], Tokenizer], prompt: str, answer: str
) -> None:
    tokenizer = _wrapped(build)
    trained = training_ids(tokenizer, prompt, answer)
    start = trained.prompt_tokens
    assert trained.labels == [IGNORED] * start + trained.input_ids[start:]
    assert trained.input_ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in trained.input_ids[start:-1]
    text = tokenizer.decode(trained.input_ids, skip_special_tokens=True)
    assert text == tokenizer.decode(tokenizer.encode(prompt + answer), skip_special_tokens=True)


def test_where_a_token_spans_the_border_the_prompt_keeps_its_ids() -> None:
    tokenizer = _wrapped(_dummy_prefix)
    prompt, answer = CASES[-7]
    alone = tokenizer.encode(prompt)
    assert prompt.endswith("<|answer|>")
    assert tokenizer.encode(prompt + answer)[: len(alone)] != alone  # the case at hand
    trained = training_ids(tokenizer, prompt, answer)
    assert trained.input_ids[: trained.prompt_tokens] == alone
    text = tokenizer.decode(trained.input_ids, skip_special_tokens=True)
    assert text == prompt + answer  # one space, though this tokenizer puts one before any text


def test_full_loss_counts_all_but_the_first_token() -> None:
    trained = training_ids(_wrapped(_byte_level_with_bos), *CASES[0], loss="full")
    assert trained.labels == [IGNORED, *trained.input_ids[1:]]


def test_a_tokenizer_without_end_of_text_is_refused() -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=_byte_level())
    with pytest.raises(SftbenchError, match="no end-of-text token"):
        training_ids(tokenizer, "Question:", " answer")


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(SftbenchError, match="the prompt has no tokens"):
        training_ids(_wrapped(_byte_level), "", " answer")
