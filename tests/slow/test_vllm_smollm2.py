"""vLLM on SmolLM2 (bfloat16 where it is native), one start: agreement, half characters, a swap."""

import pytest
import torch

from sftbench.checkpoints.lazy import Folder, Held
from sftbench.checkpoints.reference import resolve
from sftbench.engines.parity import MEAN_NOISE, NOISE
from sftbench.engines.settings import EngineSettings, make_engine, vllm_installed
from sftbench.engines.transformers import TransformersEngine
from sftbench.facts.prompts import PROMPTS, prompt_text
from sftbench.facts.reference import resolve_facts
from sftbench.facts.shots import shots_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not vllm_installed(), reason="vLLM is not installed"),
]

COUNT = 24
# A processor without AVX-512 only emulates bfloat16: the same tests take five times as long.
DTYPE = "bfloat16" if "AVX512" in torch.backends.cpu.get_cpu_capability() else "float32"


@pytest.fixture(scope="module")
def engine():
    options = (("max_model_len", 512),)
    engine = make_engine(resolve("smollm2"), EngineSettings("vllm", DTYPE, 64, options))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference():
    return TransformersEngine(resolve("smollm2"), dtype=DTYPE, device="cpu")


@pytest.fixture(scope="module")
def rows():
    return list(resolve_facts("geography").scored().head(COUNT).iter_rows(named=True))


@pytest.fixture(scope="module")
def questions(rows):
    shots = shots_of(resolve_facts("geography"))
    return [
        prompt_text(PROMPTS["fewshot"], row["question"], shots(row["fact_id"], row["relation"]))
        for row in rows
    ]


def test_answers_and_log_probabilities_agree_within_noise(engine, reference, questions, rows):
    ours = engine.greedy(questions, max_new_tokens=8, stop=("\n",))
    theirs = reference.greedy(questions, max_new_tokens=8, stop=("\n",))
    flips = [(a.text, b.text) for a, b in zip(ours, theirs, strict=True) if a.text != b.text]
    assert len(flips) <= COUNT // 6, flips
    pairs = [(text, f" {row['answers'][0]}") for text, row in zip(questions, rows, strict=True)]
    gaps = [
        abs(a.logprob - b.logprob) / a.tokens
        for a, b in zip(engine.logprobs(pairs), reference.logprobs(pairs), strict=True)
    ]
    assert max(gaps) < NOISE[DTYPE]
    assert sum(gaps) / len(gaps) < MEAN_NOISE[DTYPE]


def test_a_budget_that_cuts_a_character_gives_the_same_text(engine, reference):
    """vLLM's own text leaves half a character out, transformers' shows U+FFFD."""
    prompts = ["🙂🙃🙂🙃🙂🙃🙂🙃🙂", "汉字汉字汉字汉字汉字汉", "ру́сский ру́сский ру́с"]
    seen = set()
    for budget in (1, 2, 3):
        ours = engine.greedy(prompts, max_new_tokens=budget, stop=())
        theirs = reference.greedy(prompts, max_new_tokens=budget, stop=())
        assert [one.text for one in ours] == [one.text for one in theirs]
        seen.update(one.text[-1:] for one in ours)
    assert "\ufffd" in seen


def test_swapped_weights_are_those_that_answer(engine, reference, questions):
    weights = Folder(resolve("smollm2"))
    generator = torch.Generator().manual_seed(0)
    changed = {
        name: tensor.float()
        + 0.1 * tensor.float().std() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in weights.items()
    }
    before = engine.greedy(questions[:6], max_new_tokens=6, stop=("\n",))
    engine.load(Held(changed))
    assert engine.parity.largest < NOISE[DTYPE]
    assert engine.greedy(questions[:6], max_new_tokens=6, stop=("\n",)) != before
    engine.load(weights)
    assert engine.greedy(questions[:6], max_new_tokens=6, stop=("\n",)) == before
