"""The transformers engine: any causal language model that transformers can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.common.digests import software_versions
from sftbench.common.errors import SftbenchError
from sftbench.engines.attention import use_decode_attention
from sftbench.engines.decoding import Decoder, Row, by_prefix, pad_left, read_all
from sftbench.engines.protocol import (
    Advance,
    Completion,
    Draws,
    Finish,
    Sampling,
    Scored,
)
from sftbench.engines.sampling import draw, uniforms

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


class TransformersEngine:
    """Answers prompts through `AutoModelForCausalLM`, on a GPU when there is one.

    Args:
        path: checkpoint folder.
        dtype: one of `DTYPES`; weights and arithmetic.
        batch_size: prompts in one batch for greedy answers and log-probabilities.
        sample_rows: completions in one batch when sampling.
        device: such as "cpu" or "cuda"; None takes a GPU when there is one.
    """

    def __init__(
        self,
        path: Path,
        *,
        dtype: str = "float32",
        batch_size: int = 16,
        sample_rows: int = 420,
        device: str | None = None,
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # a bar of tensors says nothing beside a bar of facts
        if dtype not in DTYPES:
            raise SftbenchError(
                f"the dtype {dtype!r} is not known", remedy=f"Use one of {', '.join(DTYPES)}."
            )
        self._dtype = dtype
        self._batch_size = batch_size
        self._sample_rows = sample_rows
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=getattr(torch, dtype), local_files_only=True
        )
        self.model.eval().to(self._device)
        use_decode_attention(self.model)
        self._decoder = Decoder(self.model, self._texts, self._end_ids(), self._pad_id())

    def describe(self) -> Mapping[str, str]:
        """Return what decides the numbers of this engine."""
        return {
            "engine": "transformers",
            "dtype": self._dtype,
            "device": self._device.type,
            "batch_size": str(self._batch_size),
            "sample_rows": str(self._sample_rows),
            **software_versions("torch", "transformers", "tokenizers"),
        }

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Copy the weights into the model in place (see `Engine.load`)."""
        import torch

        target = self.model.state_dict()
        tied = _tied_names(target)
        unknown = sorted(set(weights) - set(target))
        missing = sorted(name for name in set(target) - set(weights) if name not in tied)
        if unknown or missing:
            raise SftbenchError(
                "the weights do not fit the model: "
                + "; ".join(
                    f"{label} {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
                    for label, names in (("unknown", unknown), ("missing", missing))
                    if names
                )
            )
        with torch.no_grad():
            for name, tensor in weights.items():
                if target[name].shape != tensor.shape:
                    raise SftbenchError(
                        f"has shape {list(tensor.shape)} where the model has "
                        f"{list(target[name].shape)}",
                        where=name,
                    )
                target[name].copy_(tensor)

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        """Yield, in order, the completions of each draw (see `Engine.sample`)."""
        for batch in _batches(draws, self._sample_rows):
            yield from self._sample_batch(batch, how)

    def _sample_batch(self, batch: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        owner = [draws for draws in batch for _ in range(draws.n)]
        seeds = [draws.seed + child for draws in batch for child in range(draws.n)]
        chance = uniforms(seeds, how.max_new_tokens)

        def pick(logits: torch.Tensor, live: torch.Tensor, step: int) -> torch.Tensor:
            return draw(logits, how.temperature, chance[live, step])

        def ended(number: int, text: str) -> Finish | None:
            found = owner[number].found
            # A last U+FFFD is half a character: what it will be is not known yet.
            return "found" if found is not None and found(text.rstrip("\ufffd")) else None

        rows = self._decoder.run(
            [self.encode(draws.prompt) for draws in batch],
            [draws.n for draws in batch],
            pick=pick,
            ended=ended,
            max_new_tokens=how.max_new_tokens,
        )
        start = 0
        for draws in batch:
            yield [self._completion(row) for row in rows[start : start + draws.n]]
            start += draws.n

    def greedy(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        advance: Advance | None = None,
    ) -> list[Completion]:
        """Return the most probable completion of each prompt (see `Engine.greedy`)."""
        encoded = [self.encode(prompt) for prompt in prompts]
        answers: dict[int, Completion] = {}

        def pick(logits: torch.Tensor, live: torch.Tensor, step: int) -> torch.Tensor:
            return logits.argmax(dim=1)

        def ended(number: int, text: str) -> Finish | None:
            return "stop" if any(mark in text for mark in stop) else None

        for chunk in by_prefix(encoded, self._batch_size):
            rows = self._decoder.run(
                [encoded[i] for i in chunk],
                [1] * len(chunk),
                pick=pick,
                ended=ended,
                max_new_tokens=max_new_tokens,
            )
            for i, row in zip(chunk, rows, strict=True):
                answers[i] = self._completion(row, stop)
            if advance is not None:
                advance(len(chunk))
        return [answers[i] for i in range(len(prompts))]

    def logprobs(
        self, pairs: Sequence[tuple[str, str]], *, advance: Advance | None = None
    ) -> list[Scored]:
        """Return the log-probability of each continuation, in nats (see `Engine.logprobs`)."""
        encoded = [self.encode_pair(prompt, text) for prompt, text in pairs]
        scores: dict[int, Scored] = {}
        for chunk in by_prefix([prompt for prompt, _ in encoded], self._batch_size):
            batch = self._logprob_batch([encoded[i] for i in chunk])
            scores.update(zip(chunk, batch, strict=True))
            if advance is not None:
                advance(len(chunk))
        return [scores[i] for i in range(len(pairs))]

    def _logprob_batch(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[Scored]:
        import torch

        longest = max(len(text) for _, text in pairs)
        whole = [prompt + text for prompt, text in pairs]
        with torch.inference_mode():
            logits = read_all(self.model, whole, self._pad_id(), keep=longest + 1).logits[:, :-1]
            ids, _ = pad_left([text for _, text in pairs], self._pad_id())
            logp = logits.float().log_softmax(dim=-1)
            picked = logp.gather(2, ids.to(self._device).unsqueeze(2)).squeeze(2).double()
        return [
            Scored(float(picked[row, longest - len(text) :].sum()), len(text))
            for row, (_, text) in enumerate(pairs)
        ]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a prompt: the tokenizer's own special tokens, as lm-eval sends them."""
        bos = self.tokenizer.bos_token
        written = bos is not None and text.startswith(bos)
        ids = self.tokenizer(text, add_special_tokens=not written)["input_ids"]
        return [int(token) for token in ids]

    def encode_pair(self, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the ids of a prompt and of what follows it.

        Trailing spaces of the prompt belong to the continuation, as in lm-eval; where the two
        merge at the border, the prompt keeps the ids that it has alone.
        """
        kept = prompt.rstrip()
        continuation = prompt[len(kept) :] + continuation
        alone, both = self.encode(kept), self.encode(kept + continuation)
        return alone, both[len(alone) :]

    def _texts(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return [self._text(sequence) for sequence in sequences]
        return list(backend.decode_batch([list(ids) for ids in sequences]))

    def _text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _completion(self, row: Row, stop: Sequence[str] = ()) -> Completion:
        text = self._text(row.ids)
        for mark in stop:
            text = text.split(mark)[0]
        return Completion(text, row.finish, len(row.ids))

    def _end_ids(self) -> frozenset[int]:
        named = getattr(self.model.generation_config, "eos_token_id", None)
        listed = named if isinstance(named, list) else [named]
        return frozenset(
            int(token) for token in [*listed, self.tokenizer.eos_token_id] if token is not None
        )

    def _pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.tokenizer.eos_token_id or 0)


def _tied_names(state: Mapping[str, torch.Tensor]) -> set[str]:
    """Return the names that share their memory with another name of the same model."""
    by_place: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for name, tensor in state.items():
        by_place.setdefault((tensor.data_ptr(), tuple(tensor.shape)), []).append(name)
    return {name for names in by_place.values() if len(names) > 1 for name in names}


def _batches(draws: Sequence[Draws], rows: int) -> Iterator[list[Draws]]:
    """Cut into batches of at most `rows` completions (a larger draw has a batch of its own)."""
    batch: list[Draws] = []
    for one in draws:
        if batch and sum(other.n for other in batch) + one.n > rows:
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch
