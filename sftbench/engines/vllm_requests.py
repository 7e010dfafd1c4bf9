"""Requests to a live vLLM engine: a bounded number at once, each handed out when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sftbench.common.errors import SftbenchError
from sftbench.engines.memory import is_out_of_memory
from sftbench.engines.tokens import Codec

Found = Callable[[str], bool]

AHEAD = 2
"""Requests in the engine for each that runs: it is never idle, and a stopped run loses little."""


@dataclass
class Request:
    """One completion to be made.

    Attributes:
        prompt: token ids.
        params: vLLM's `SamplingParams`.
        found: told the text so far; True ends the completion.
        ids: new token ids; an id that ended it is not among them.
        finish: why it ended, once it has: "stop", "length" or "found".
        prompt_logprobs: nats of each prompt token given those before it; None for the first, and
            empty unless `params` asks for them.
        shown: positions, from the end, of which the most probable next tokens are kept.
        tops: of each of these, ids and log-probabilities (nats), as many as `params` asks for.
    """

    prompt: Sequence[int]
    params: Any
    found: Found | None = None
    ids: list[int] = field(default_factory=list)
    finish: str | None = None
    prompt_logprobs: list[float | None] = field(default_factory=list)
    shown: int = 0
    tops: list[dict[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Runner:
    """Drives vLLM's engine step by step.

    Attributes:
        llm: vLLM's `LLM`.
        codec: turns ids into text for `found`.
        end_ids: ids that end a completion.
        at_once: completions that the engine runs at once.
    """

    llm: Any
    codec: Codec
    end_ids: frozenset[int]
    at_once: int

    def run(self, requests: Iterable[Request], salt: str) -> Iterator[Request]:
        """Yield the requests in their order, each as soon as it and those before it are done.

        A caller that stops early leaves nothing running.

        Args:
            requests: taken from as room becomes free.
            salt: names the weights; only requests with the same salt share cached prefixes.

        Raises:
            SftbenchError: the engine fails.
        """
        waiting = iter(requests)
        live: dict[str, Request] = {}
        order: list[Request] = []
        try:
            while True:
                for request in islice(waiting, AHEAD * self.at_once - len(live)):
                    live[self._add(request, salt)] = request
                    order.append(request)
                if not order:
                    return
                if live:
                    self._step(live)
                done = 0
                while done < len(order) and order[done].finish is not None:
                    yield order[done]
                    done += 1
                del order[:done]
        finally:
            self.llm.llm_engine.abort_request(list(live))

    def _add(self, request: Request, salt: str) -> str:
        from vllm.inputs.engine import tokens_input

        name = str(next(self.llm.request_counter))
        prompt = tokens_input(list(request.prompt), cache_salt=salt)
        self.llm.llm_engine.add_request(name, prompt, request.params)
        return name

    def _step(self, live: dict[str, Request]) -> None:
        """Make one token of each running request and take the finished out of `live`."""
        touched = []
        try:
            outputs = self.llm.llm_engine.step()
        except Exception as error:
            raise _failed(error) from error
        for output in outputs:
            request = live[output.request_id]
            self._take(request, output)
            touched.append(request)
        self._look(touched)
        finished = [name for name, request in live.items() if request.finish is not None]
        self.llm.llm_engine.abort_request([n for n in finished if live[n].finish == "found"])
        for name in finished:
            del live[name]

    def _take(self, request: Request, output: Any) -> None:
        """Add what is new to a request."""
        (completion,) = output.outputs
        new = [int(token) for token in completion.token_ids]
        if output.prompt_logprobs is not None and not request.prompt_logprobs:
            request.prompt_logprobs = [
                None if one is None else float(one[token].logprob)
                for token, one in zip(request.prompt, output.prompt_logprobs, strict=True)
            ]
            if request.shown:
                own = output.prompt_logprobs[len(request.prompt) - request.shown + 1 :]
                request.tops = [_top(one) for one in (*own, completion.logprobs[0])]
        if completion.finish_reason is not None:
            request.finish = "length" if completion.finish_reason == "length" else "stop"
        if new and new[-1] in self.end_ids:
            new, request.finish = new[:-1], "stop"
        request.ids.extend(new)

    def _look(self, requests: Sequence[Request]) -> None:
        """End the requests whose text says that it can end; an end-of-text goes first."""
        watched = [one for one in requests if one.found is not None and one.finish != "stop"]
        if not watched:
            return
        texts = self.codec.texts([one.ids for one in watched])
        for one, text in zip(watched, texts, strict=True):
            # A last U+FFFD is half a character: what it will be is not known yet.
            if one.found is not None and one.found(text.rstrip("\ufffd")):
                one.finish = "found"


def _top(logprobs: Mapping[int, Any]) -> dict[int, float]:
    """Return one position's log-probabilities by id."""
    return {int(token): float(one.logprob) for token, one in logprobs.items()}


def _failed(error: Exception) -> SftbenchError:
    if is_out_of_memory(error):
        return SftbenchError(
            "vLLM ran out of memory while it answered",
            remedy="Use a smaller --batch-size, or --engine-options max_num_batched_tokens=1024; "
            "on a GPU also a smaller gpu_memory_utilization.",
        )
    return SftbenchError(
        f"vLLM's engine failed: {type(error).__name__}: {error}",
        remedy="Its own words stand above; VLLM_LOGGING_LEVEL=INFO gives more. Or use --engine hf.",
    )
