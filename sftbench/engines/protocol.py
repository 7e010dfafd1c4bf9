"""The protocol of an engine: text in, text and log-probabilities out, weights swapped in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from sftbench.checkpoints.lazy import Weights

Finish = Literal["stop", "length", "found"]
"""Why a completion ended: a stop string or end-of-text, the token budget, or `found` said so."""

Advance = Callable[[int], None]
"""Called with the number of items that were just finished."""


@dataclass(frozen=True)
class Completion:
    """One completion: `text` (stop string cut off), why it ended, and its length in tokens."""

    text: str
    finish: Finish
    tokens: int


@dataclass(frozen=True)
class Draws:
    """What to sample for one prompt: child i of `n` uses the seed ``seed + i``.

    Attributes:
        prompt: the text to complete.
        seed: in [0, 2**63).
        n: number of completions.
        found: called with the text so far; True ends that completion early ("found").
            It must never turn from True to False as the text grows.
    """

    prompt: str
    seed: int
    n: int
    found: Callable[[str], bool] | None = None


Forecast = list[list[float]]
"""Chance that a completion states an answer, ``[prompts][paths]``: each path is an estimate."""


@dataclass(frozen=True)
class Asked:
    """Prompts of one fact whose completions may state an answer.

    Attributes:
        prompts: the texts to complete; those that begin alike share that part's cost.
        answers: spellings of what is looked for: their chance is computed, not sampled.
        seeds: for each prompt one seed in [0, 2**63) for each path.
        found: called with the text so far; True once it has stated an answer for good.
        whole_words: an answer must end where a word does.
    """

    prompts: Sequence[str]
    answers: Sequence[str]
    seeds: Sequence[Sequence[int]]
    found: Callable[[str], bool]
    whole_words: bool = True


@dataclass(frozen=True)
class Sampling:
    """How to sample: softmax(logits / temperature), no top-p, no top-k."""

    temperature: float = 0.7
    max_new_tokens: int = 32


@dataclass(frozen=True)
class Scored:
    """Log-probability of a continuation given its prompt: nats, summed over its `tokens`."""

    logprob: float
    tokens: int


class Sampler(Protocol):
    """The part of an engine that draws: all that the sampled estimator of mastery needs."""

    def describe(self) -> Mapping[str, str]:
        """Return engine, dtype, batch size and software versions, for the record of a result."""
        ...

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        """Yield, in order, the `n` completions of each draw as soon as they are finished."""
        ...


@runtime_checkable
class Forecaster(Sampler, Protocol):
    """The part of an engine that computes the chance of a statement without sampling it."""

    def can_forecast(self) -> bool:
        """Return whether `forecast` can be asked: not every model reads trees of tokens."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids that a prompt is sent as."""
        ...

    def forecast(self, asked: Sequence[Asked], how: Sampling, looked: int) -> Iterator[Forecast]:
        """Yield, in order, the chances of each fact's prompts.

        Args:
            asked: the facts; those that follow each other may share the cost of their prompts.
            how: temperature and longest completion of the sampling that is forecast.
            looked: tokens that a path is followed for; at most the longest completion.

        Raises:
            SftbenchError: the model cannot read several continuations in one pass.
        """
        ...


class Engine(Sampler, Protocol):
    """Answers prompts with one model; holds at most one set of weights at a time.

    Attributes:
        tokenizer: the checkpoint's own, as `AutoTokenizer` returns it.
    """

    tokenizer: Any

    def load(self, weights: Weights) -> None:
        """Swap the weights in place, by checkpoint name; every tensor of the model must be there.

        Tensors that the checkpoint leaves out because they are tied may be missing. Names and
        shapes are checked before anything is copied; then one tensor is made at a time.

        Raises:
            SftbenchError: a tensor is missing, unknown or of another shape.
        """
        ...

    def greedy(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        advance: Advance | None = None,
    ) -> list[Completion]:
        """Return the most probable completion of each prompt, cut at the first stop string."""
        ...

    def logprobs(
        self, pairs: Sequence[tuple[str, str]], *, advance: Advance | None = None
    ) -> list[Scored]:
        """Return the log-probability of each (prompt, continuation)."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the ids that a prompt is sent as."""
        ...

    def encode_pair(self, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the ids of a prompt and of what follows it, as they are sent together."""
        ...

    def close(self) -> None:
        """Give memory and processes back; the engine cannot be asked any more."""
        ...


@runtime_checkable
class WholeReader(Engine, Protocol):
    """An engine that gives whole distributions."""

    @property
    def batch_size(self) -> int:
        """Prompts in one batch."""
        ...

    def next_logits(self, texts: Sequence[Sequence[int]], keep: int) -> Any:
        """Return the logits of the last `keep` positions of each text.

        The last position predicts what follows the text.

        Args:
            texts: token ids, each longer than `keep`, or as long.
            keep: positions, from the end.

        Returns:
            a torch tensor ``[texts, keep, vocabulary]`` in the model's dtype, on its device.
        """
        ...


@runtime_checkable
class TopReader(Engine, Protocol):
    """An engine that gives the most probable tokens alone."""

    def top_logprobs(
        self, texts: Sequence[tuple[Sequence[int], int]], *, advance: Advance | None = None
    ) -> Iterator[list[dict[int, float]]]:
        """Yield, in order, the log-probabilities (nats) of the most probable next tokens.

        Args:
            texts: token ids and how many positions are wanted, from the end; the last position
                predicts what follows the text.
            advance: told of each text that is done.

        Yields:
            for each position the ids of the most probable tokens with their log-probabilities.
        """
        ...
