"""The transformers engine: any causal language model that transformers can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sftbench.checkpoints.lazy import Weights
from sftbench.common.digests import software_versions
from sftbench.common.errors import SftbenchError
from sftbench.engines.attention import use_decode_attention
from sftbench.engines.decoding import Decoder, Row, by_prefix, pad_left, read_all
from sftbench.engines.forecast import Forecasts, paths_of, together, word_ends
from sftbench.engines.forest import require_trees
from sftbench.engines.memory import Room, free
from sftbench.engines.options import FLAG, Value, require_known
from sftbench.engines.protocol import (
    Advance,
    Asked,
    Completion,
    Draws,
    Finish,
    Forecast,
    Sampling,
    Scored,
)
from sftbench.engines.sampling import batches, draw, uniforms
from sftbench.engines.tokens import Codec, cut

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
LINE = "The capital of France is the city of Paris."
"""A text to try a model with."""
Item = TypeVar("Item")
OPTIONS: Mapping[str, type] = {"device": str, "sample_rows": int}
"""What `--engine-options` may set, beside the type of its value."""


def own_options(options: Mapping[str, Value]) -> dict[str, Any]:
    """Return options as arguments of `TransformersEngine`.

    Raises:
        SftbenchError: an option that it does not have, or a value of another type.
    """
    require_known(options, OPTIONS, "the transformers engine")
    for name, value in options.items():
        if type(value) is not OPTIONS[name] or not value:
            raise SftbenchError(f"{name}={value} is not possible", where=FLAG)
    return dict(options)


class TransformersEngine:
    """Answers prompts through `AutoModelForCausalLM`, on a GPU when there is one.

    A batch that does not fit into memory is halved, and so are all after it.

    Args:
        path: checkpoint folder.
        dtype: one of `DTYPES`; weights and arithmetic.
        batch_size: prompts in one batch for greedy answers and log-probabilities.
        sample_rows: completions in one batch when sampling.
        device: such as "cpu" or "cuda"; None takes a GPU when there is one.
    """

    tokenizer: Any
    model: Any

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
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=getattr(torch, dtype), local_files_only=True
        )
        model.eval().to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        use_decode_attention(model)
        self._hold(model, tokenizer, dtype, batch_size, sample_rows)

    @classmethod
    def around(cls, model: Any, tokenizer: Any, *, batch_size: int = 16) -> Self:
        """Return an engine that asks a model in memory, where it is and as it is.

        Its mode, attention and configuration are left alone: the caller sees to eval mode.

        Args:
            model: a transformers causal language model; whole, on one device.
            tokenizer: as `AutoTokenizer` returns it.
            batch_size: prompts in one batch.
        """
        engine = cls.__new__(cls)
        dtype = str(model.dtype).removeprefix("torch.")
        engine._hold(model, tokenizer, dtype, batch_size, sample_rows=batch_size)
        return engine

    def _hold(
        self, model: Any, tokenizer: Any, dtype: str, batch_size: int, sample_rows: int
    ) -> None:
        """Take a model that is ready to be asked."""
        self._dtype = dtype
        self._batch = Room(batch_size)
        self._sample = Room(sample_rows)
        self._device: torch.device = model.device
        self.tokenizer = tokenizer
        self.model = model
        self._codec = Codec(tokenizer)
        end_ids = self._codec.end_ids(model.generation_config)
        self._decoder = Decoder(model, self._codec.texts, end_ids, self._codec.pad_id())
        self._forecasts: Forecasts | None = None

    @property
    def batch_size(self) -> int:
        """Prompts in one batch, as many as were seen to fit."""
        return self._batch.rows

    def describe(self) -> Mapping[str, str]:
        """Return what decides the numbers of this engine."""
        return {
            "engine": "transformers",
            "dtype": self._dtype,
            "device": self._device.type,
            "batch_size": str(self.batch_size),
            "sample_rows": str(self._sample.rows),
            **software_versions("torch", "transformers", "tokenizers"),
        }

    def load(self, weights: Weights) -> None:
        """Copy the weights into the model in place (see `Engine.load`)."""
        for _ in self.taking(weights):
            pass

    def taking(self, weights: Weights) -> Iterator[tuple[str, torch.Tensor]]:
        """Return the weights' items; each is copied into the model as it goes by.

        Raises:
            SftbenchError: a tensor is missing, unknown or of another shape.
        """
        target = self.model.state_dict()
        copied = _names_to_copy(target, weights.shapes())

        def going_by() -> Iterator[tuple[str, torch.Tensor]]:
            for name, tensor in weights.items():
                if name in copied:
                    target[name].copy_(tensor)  # of a state dict: without gradients
                yield name, tensor

        return going_by()

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        """Yield, in order, the completions of each draw (see `Engine.sample`)."""
        done = self._sample.run(
            batches(draws, self._sample.rows),
            lambda batch: self._sample_batch(batch, how),
            size=_rows,
            halves=_halve_draws,
        )
        stream = chain.from_iterable(completions for _, completions in done)
        for one in draws:
            yield list(islice(stream, one.n))

    def _sample_batch(self, batch: Sequence[Draws], how: Sampling) -> list[Completion]:
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
        return [self._completion(row) for row in rows]

    def can_forecast(self) -> bool:
        """Return whether the model reads several continuations in one pass."""
        try:
            require_trees(self.model, self.encode(LINE))
        except SftbenchError:
            return False
        return True

    def forecast(self, asked: Sequence[Asked], how: Sampling, looked: int) -> Iterator[Forecast]:
        """Yield, in order, the chances of each fact's prompts (see `Forecaster.forecast`)."""
        if self._forecasts is None:
            require_trees(self.model, self.encode(LINE))
            end_ids = self._decoder.end_ids
            vocabulary = self.model.config.get_text_config().vocab_size
            ends = word_ends(self._codec, vocabulary, end_ids)
            self._forecasts = Forecasts(self.model, self._codec, end_ids, ends)
        run = self._forecasts.run
        done = self._sample.run(
            together(asked, self._sample.rows),
            lambda batch: run(batch, how, looked),
            size=paths_of,
            halves=_halve_asked,
        )
        # By prompts, not by facts: a fact that did not fit was asked in two halves.
        stream = chain.from_iterable(chain.from_iterable(found) for _, found in done)
        for one in asked:
            yield list(islice(stream, len(one.prompts)))

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

        def work(chunk: list[int]) -> list[Row]:
            return self._decoder.run(
                [encoded[i] for i in chunk],
                [1] * len(chunk),
                pick=pick,
                ended=ended,
                max_new_tokens=max_new_tokens,
            )

        chunks = by_prefix(encoded, self._batch.rows)
        for chunk, rows in self._batch.run(chunks, work, size=len, halves=_halve):
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

        def work(chunk: list[int]) -> list[Scored]:
            return self._logprob_batch([encoded[i] for i in chunk])

        chunks = by_prefix([prompt for prompt, _ in encoded], self._batch.rows)
        for chunk, batch in self._batch.run(chunks, work, size=len, halves=_halve):
            scores.update(zip(chunk, batch, strict=True))
            if advance is not None:
                advance(len(chunk))
        return [scores[i] for i in range(len(pairs))]

    def _logprob_batch(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[Scored]:
        import torch

        longest, pad_id = max(len(text) for _, text in pairs), self._codec.pad_id()
        whole = [prompt + text for prompt, text in pairs]
        with torch.inference_mode():
            logits = read_all(self.model, whole, pad_id, keep=longest + 1).logits[:, :-1]
            ids, _ = pad_left([text for _, text in pairs], pad_id)
            logp = logits.float().log_softmax(dim=-1)
            picked = logp.gather(2, ids.to(self._device).unsqueeze(2)).squeeze(2).double()
        return [
            Scored(float(picked[row, longest - len(text) :].sum()), len(text))
            for row, (_, text) in enumerate(pairs)
        ]

    def next_logits(self, texts: Sequence[Sequence[int]], keep: int) -> torch.Tensor:
        """Return the logits of the last positions of each text (see `WholeReader.next_logits`)."""
        import torch

        with torch.inference_mode():
            read = read_all(self.model, texts, self._codec.pad_id(), keep=keep)
            logits: torch.Tensor = read.logits
            return logits

    def encode(self, text: str) -> list[int]:
        """Return the ids of a prompt (see `Codec.encode`)."""
        return self._codec.encode(text)

    def encode_pair(self, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the ids of a prompt and of what follows it (see `Codec.encode_pair`)."""
        return self._codec.encode_pair(prompt, continuation)

    def close(self) -> None:
        """Give the model's memory back; the engine cannot be asked any more."""
        self.model = None
        self._forecasts = None
        del self._decoder
        free()

    def _completion(self, row: Row, stop: Sequence[str] = ()) -> Completion:
        return Completion(cut(self._codec.text(row.ids), stop), row.finish, len(row.ids))


def _names_to_copy(
    state: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> set[str]:
    """Return the names that decide a model's weights, once they are known to fit it.

    Of names that are tied, that is the model's first that is there: its embedding, not its head.

    Raises:
        SftbenchError: a tensor is missing, unknown or of another shape.
    """
    tied: dict[tuple[int, tuple[int, ...]], list[str]] = {}
    for name, tensor in state.items():
        tied.setdefault((tensor.data_ptr(), tuple(tensor.shape)), []).append(name)
    there = [[name for name in names if name in shapes] for names in tied.values()]
    wrong = {
        "unknown": sorted(shapes.keys() - state.keys()),
        "missing": sorted(
            all_[0] for all_, some in zip(tied.values(), there, strict=True) if not some
        ),
    }
    if any(wrong.values()):
        raise SftbenchError(
            "the weights do not fit the model: "
            + "; ".join(
                f"{label} {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
                for label, names in wrong.items()
                if names
            )
        )
    for name, shape in shapes.items():
        if tuple(state[name].shape) != tuple(shape):
            raise SftbenchError(
                f"has shape {list(shape)} where the model has {list(state[name].shape)}",
                where=name,
            )
    return {names[0] for names in there}


def _halve(chunk: list[Item]) -> tuple[list[Item], list[Item]] | None:
    middle = len(chunk) // 2
    return (chunk[:middle], chunk[middle:]) if middle else None


def _halve_draws(batch: list[Draws]) -> tuple[list[Draws], list[Draws]] | None:
    """Return a batch in two; a single prompt's children are shared out, each with its own seed."""
    middle = len(batch) // 2
    if middle:
        return batch[:middle], batch[middle:]
    (one,) = batch
    half = one.n // 2
    if not half:
        return None
    return [replace(one, n=half)], [replace(one, seed=one.seed + half, n=one.n - half)]


def _halve_asked(batch: list[Asked]) -> tuple[list[Asked], list[Asked]] | None:
    """Return a batch in two; of a single fact, half of the prompts each.

    What is not read of a path is taken from the fact's others (`passed.share_rests`): then from
    those of its own half, which moved chances of SmolLM2 by up to 0.003.
    """
    if len(batch) != 1:
        return _halve(batch)
    (one,) = batch
    middle = len(one.prompts) // 2
    if not middle:
        return None
    first = replace(one, prompts=one.prompts[:middle], seeds=one.seeds[:middle])
    return [first], [replace(one, prompts=one.prompts[middle:], seeds=one.seeds[middle:])]


def _rows(batch: Sequence[Draws]) -> int:
    return sum(draws.n for draws in batch)
