"""A tokenizer and a small Llama, trained from scratch on the text of the invented world."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from sftbench.common.digests import seed_of
from sftbench.lab.text import plain

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast
    from transformers.models.llama import LlamaForCausalLM

    from sftbench.lab.sizes import LabSize
    from sftbench.lab.text import Document, Text

Row = list[tuple[int, float]]
"""A document as (token id, weight in the loss)."""

BOS = "<s>"
EOS = "</s>"
WARM_UP_SHARE = 0.05
WEIGHT_DECAY = 0.05
CONTEXT_WEIGHT = 0.1
"""Weight in the loss of a token outside the answers: which template comes next, and whom it is
about, cannot be known, and the model has better things to learn."""
MAX_POSITIONS = 512


def make_tokenizer(documents: Sequence[Document], size: LabSize) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer trained on the documents.

    Any text can be encoded and comes back unchanged; there is no unknown token. A text begins
    with the BOS token, as with Llama (SmolLM2 has none: the two bundled models cover both).
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocabulary,
        special_tokens=[BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(map(plain, documents), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A $B",
        special_tokens=[(BOS, tokenizer.token_to_id(BOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        model_max_length=MAX_POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def make_model(size: LabSize, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return the untrained Llama of a size, in float32 and from its seed."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed_of("lab", "weights", size.seed))
    return LlamaForCausalLM(config)


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    text: Text,
    size: LabSize,
    advance: Callable[[int], None],
) -> float:
    """Train the model on the text; return the mean loss of the last epoch, in nats.

    Plain AdamW with warm-up and a cosine schedule. `advance` is called with 1 after each epoch.
    """
    model.train()
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    norms = [weight for weight in model.parameters() if weight.dim() <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": norms, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=size.learning_rate, betas=(0.9, 0.98))
    loss = math.nan
    for epoch in range(size.epochs):
        seed = seed_of("lab", "epoch", size.seed, epoch)
        batches = _batches(_encode(text.documents(seed), tokenizer), size, seed)
        losses = []
        for step, batch in enumerate(batches):
            done = (epoch + step / len(batches)) / size.epochs
            for group in optimizer.param_groups:
                group["lr"] = size.learning_rate * _schedule(done)
            losses.append(_step(model, optimizer, batch))
        loss = sum(losses) / len(losses)
        advance(1)
    model.eval()
    return loss


def _schedule(done: float) -> float:
    """Return the learning rate's factor when a share `done` of the training is done."""
    if done < WARM_UP_SHARE:
        return (done + 1e-3) / (WARM_UP_SHARE + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (done - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))


def _encode(documents: Sequence[Document], tokenizer: PreTrainedTokenizerFast) -> list[Row]:
    """Return the ids of each document, with BOS before it and EOS after it, and their weights."""
    pieces = [piece for document in documents for pair in document for piece in pair]
    encoded = iter(tokenizer(pieces, add_special_tokens=False)["input_ids"])
    bos, eos = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
    rows: list[Row] = []
    for document in documents:
        row = [(bos, 0.0)]
        for _ in document:
            row += [(token, CONTEXT_WEIGHT) for token in next(encoded)]
            row += [(token, 1.0) for token in next(encoded)]
        rows.append([*row, (eos, 1.0)])
    return rows


def _batches(rows: list[Row], size: LabSize, seed: int) -> list[list[Row]]:
    """Return batches of documents of like length, in random order.

    Documents stand alone, as prompts do later: none sees another, so none is packed with one.
    """
    rng = random.Random(seed)
    batches: list[list[Row]] = [[]]
    for row in sorted(rows, key=lambda row: (len(row), rng.random())):
        if len(row) * (len(batches[-1]) + 1) > size.batch_tokens and batches[-1]:
            batches.append([])
        batches[-1].append(row)
    rng.shuffle(batches)
    return batches


def _step(model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, rows: list[Row]) -> float:
    """Take one training step; return its loss, the weighted mean over the tokens."""
    longest = max(len(row) for row in rows)
    padded = [row + [(0, 0.0)] * (longest - len(row)) for row in rows]
    ids = torch.tensor([[token for token, _ in row] for row in padded])
    weights = torch.tensor([[weight for _, weight in row] for row in padded])[:, 1:]
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
    )
    loss = (losses * weights.flatten()).sum() / weights.sum()
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a standard Hugging Face folder with bf16 weights: these are the base."""
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes for its owner alone
