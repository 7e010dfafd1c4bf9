"""A real vLLM engine on the lab model, one start for all: agreement, swaps, every known trap."""

import re
from itertools import combinations

import pytest
import torch
from resident import resident

from sftbench.checkpoints.lazy import Folder, Held
from sftbench.checkpoints.pairing import Pair
from sftbench.checkpoints.planning import plan
from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.restored import RestoredWeights
from sftbench.checkpoints.rules import parse_rule
from sftbench.checkpoints.weights import read_tensors
from sftbench.checkpoints.writer import write_checkpoint
from sftbench.common.errors import SftbenchError
from sftbench.engines.protocol import Draws, Sampling
from sftbench.engines.settings import EngineSettings, make_engine, vllm_installed
from sftbench.engines.transformers import TransformersEngine
from sftbench.engines.vllm_requests import AHEAD, Request
from sftbench.engines.vllm_start import CPU_CACHE_GIB, on_cpu
from sftbench.engines.vllm_worker import packed, repack_heads
from sftbench.facts.prompts import PROMPTS, prompt_text
from sftbench.facts.reference import resolve_facts
from sftbench.facts.shots import shots_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not vllm_installed(), reason="vLLM is not installed"),
]

BLOCK = 32
"""Tokens in one block of the prefix cache; the few-shot prompts of the lab fill several."""
AT_ONCE = 64
UNLIKE = "does not compute the weights that it was given"


@pytest.fixture(scope="module")
def engine():
    settings = EngineSettings("vllm", "float32", AT_ONCE, (("block_size", BLOCK),))
    engine = make_engine(resolve("lab"), settings)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference():
    return TransformersEngine(resolve("lab"), device="cpu")


@pytest.fixture(scope="module")
def tensors():
    return read_tensors(resolve("lab"))


@pytest.fixture(scope="module")
def weights():
    return Folder(resolve("lab"))


@pytest.fixture(scope="module")
def changed(tensors):
    """Return weights that answer otherwise, every tensor of them moved."""
    return Held(moved(tensors, 0.4, seed=0))


@pytest.fixture
def original(engine, reference, weights):
    """Leave both engines as they were."""
    yield
    engine.load(weights)
    reference.load(weights)


@pytest.fixture(scope="module")
def rows():
    return list(resolve_facts("lab").scored().head(40).iter_rows(named=True))


@pytest.fixture(scope="module")
def questions(rows):
    """Return few-shot prompts: long, with prefixes in common."""
    shots, prompt = shots_of(resolve_facts("lab")), PROMPTS["fewshot"]
    return [
        prompt_text(prompt, row["question"], shots(row["fact_id"], row["relation"])[:4])
        for row in rows
    ]


@pytest.fixture(scope="module")
def clozes(rows):
    templates = resolve_facts("lab").templates
    return [templates[row["relation"]][0].format(subject=row["subject"]) for row in rows]


def moved(tensors, by, seed):
    """Return tensors of which each is moved by so many of its standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor.float()
        + by * tensor.float().std() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in tensors.items()
    }


def give(engine, weights, monkeypatch):
    """Let the worker take these weights, whatever it is told to make."""
    monkeypatch.setattr(engine, "_one_process", False)
    monkeypatch.setattr("sftbench.engines.vllm_worker.weights_of", lambda _: weights)


def answers(engine, prompts):
    return engine.greedy(prompts, max_new_tokens=12, stop=("\n",))


# -- agreement with transformers ------------------------------------------------------------------


def test_greedy_answers_are_those_of_transformers(engine, reference, questions, clozes):
    """Text, why it ended, and length: with a stop string, at the end of text, at the budget."""
    assert answers(engine, questions) == answers(reference, questions)
    free = engine.greedy(clozes, max_new_tokens=1, stop=())
    assert free == reference.greedy(clozes, max_new_tokens=1, stop=())
    assert {one.finish for one in [*free, *answers(engine, clozes)]} == {"length", "stop"}


def test_log_probabilities_are_those_of_transformers(engine, reference, questions, rows):
    pairs = [(text, f" {row['answers'][0]}") for text, row in zip(questions, rows, strict=True)]
    told = []
    ours = engine.logprobs(pairs, advance=told.append)
    assert sum(told) == len(pairs)
    for one, other in zip(ours, reference.logprobs(pairs), strict=True):
        assert one.tokens == other.tokens
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
    assert ours == engine.logprobs(pairs)  # a cached prefix does not spoil a second reading


def test_half_a_character_at_the_end_is_the_same_text(engine, reference):
    ids = engine.encode("é")
    half = Request([1], None, ids=ids[:-1] if len(ids) > 1 else ids, finish="length")
    text = engine._completion(half).text
    assert text == reference._codec.text(half.ids)
    # bytes of one character, each a token of its own where the vocabulary lacks it
    snowman = engine.encode("☃")
    assert len(snowman) > 1
    cut = engine._completion(Request([1], None, ids=snowman[:-1], finish="length")).text
    assert cut.endswith("\ufffd")
    assert cut == reference._codec.text(snowman[:-1])


# -- sampling -------------------------------------------------------------------------------------


def test_a_draw_depends_on_its_seed_and_not_on_its_batch(engine, clozes):
    draws = [Draws(prompt, 1000 * i, 10) for i, prompt in enumerate(clozes)]
    together = list(engine.sample(draws, Sampling()))
    assert [len(completions) for completions in together] == [10] * len(draws)
    alone = [next(engine.sample([draw], Sampling())) for draw in draws[:3]]
    assert together[:3] == alone
    (shifted,) = engine.sample([Draws(clozes[0], 3, 7)], Sampling())
    assert shifted == together[0][3:]
    assert len({one.text for texts in together for one in texts}) > 40


def test_children_are_those_that_vllm_makes_of_n(engine, clozes):
    from vllm import SamplingParams

    (ours,) = engine.sample([Draws(clozes[0], 77, 6)], Sampling(0.7, 8))
    params = SamplingParams(
        n=6, seed=77, temperature=0.7, max_tokens=8, ignore_eos=True, stop_token_ids=[1]
    )
    prompt = {"prompt_token_ids": engine.encode(clozes[0])}
    (theirs,) = engine.llm.generate([prompt], params, use_tqdm=False)
    ids = [[token for token in child.token_ids if token != 1] for child in theirs.outputs]
    assert [one.text for one in ours] == [engine._codec.text(child) for child in ids]


def test_the_largest_seed_can_be_used(engine, clozes):
    (completions,) = engine.sample([Draws(clozes[0], 2**63 - 1, 3)], Sampling())
    assert len(completions) == 3


def test_first_sampled_tokens_follow_the_softmax(engine, reference, clozes):
    count = 1500
    (completions,) = engine.sample([Draws(clozes[0], 5, count)], Sampling(max_new_tokens=1))
    ids = torch.tensor([engine.encode(clozes[0])])
    with torch.inference_mode():
        logits = reference.model(ids).logits[0, -1]
    probability = torch.softmax(logits.double() / 0.7, 0)
    top = int(probability.argmax())
    word = engine.tokenizer.decode([top], skip_special_tokens=True)
    share = sum(one.text == word for one in completions) / count
    chance = float(probability[top])
    assert share == pytest.approx(chance, abs=4 * (chance * (1 - chance) / count) ** 0.5)


def test_found_ends_a_completion_early_and_changes_nothing_before(engine, clozes):
    draws = [Draws(prompt, i, 5) for i, prompt in enumerate(clozes[:10])]
    free = [one for texts in engine.sample(draws, Sampling()) for one in texts]
    watched = [Draws(d.prompt, d.seed, d.n, lambda text: len(text) > 8) for d in draws]
    found = [one for texts in engine.sample(watched, Sampling()) for one in texts]
    for whole, early in zip(free, found, strict=True):
        assert whole.text.startswith(early.text)
        assert early.tokens <= whole.tokens
        assert early.finish == ("found" if len(early.text) > 8 else "stop")
    assert sum(one.tokens for one in found) < sum(one.tokens for one in free)


def test_requests_in_flight_are_bounded_and_a_stopped_run_leaves_none(engine, clozes):
    asked = []

    def draws():
        for number in range(1000):
            asked.append(number)
            yield Draws(clozes[number % len(clozes)], number, 1)

    stream = engine._runner.run(
        (Request(engine.encode(one.prompt), engine._params(8, 0.7, one)) for one in draws()),
        "test",
    )
    next(stream)
    assert len(asked) < 3 * AHEAD * AT_ONCE
    stream.close()
    assert not engine.llm.llm_engine.has_unfinished_requests()
    assert len(answers(engine, clozes[:2])) == 2


def test_a_prompt_that_is_too_long_is_refused(engine, clozes):
    long = clozes[0] * 200
    with pytest.raises(SftbenchError, match="do not fit into the 512") as error:
        engine.greedy([long], max_new_tokens=4, stop=())
    assert "max_model_len=" in error.value.remedy
    with pytest.raises(SftbenchError, match="do not fit"):
        engine.logprobs([(long, " x")])


# -- swapping weights -----------------------------------------------------------------------------


@pytest.mark.usefixtures("original")
def test_swapped_weights_answer_as_a_fresh_model_of_them(
    engine, reference, questions, changed, rows
):
    before = answers(engine, questions)
    engine.load(changed)
    reference.load(changed)
    after = answers(engine, questions)
    assert after == answers(reference, questions)
    assert sum(a != b for a, b in zip(after, before, strict=True)) > len(rows) // 4
    assert engine.parity.largest < 1e-3
    pairs = [(questions[0], f" {row['answers'][0]}") for row in rows[:10]]
    for one, other in zip(engine.logprobs(pairs), reference.logprobs(pairs), strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_the_way_back_is_exact(engine, questions, clozes, weights, changed):
    before = answers(engine, questions), list(engine.sample([Draws(clozes[0], 1, 9)], Sampling()))
    engine.load(changed)
    engine.load(weights)
    after = answers(engine, questions), list(engine.sample([Draws(clozes[0], 1, 9)], Sampling()))
    assert after == before


@pytest.mark.usefixtures("original")
def test_prefixes_of_the_old_weights_are_not_used(engine, reference, questions, changed):
    """Without the reset and the salt they are, and the answers are wrong."""
    assert all(len(engine.encode(text)) > 2 * BLOCK for text in questions)
    answers(engine, questions)
    engine._take(changed)
    stale = answers(engine, questions)
    engine.load(changed)
    reference.load(changed)
    right = answers(reference, questions)
    assert stale != right
    assert answers(engine, questions) == right


@pytest.mark.usefixtures("original")
def test_a_salt_alone_keeps_prefixes_apart(engine, reference, questions, changed):
    answers(engine, questions)
    engine._take(changed)
    engine._loads += 1
    reference.load(changed)
    assert answers(engine, questions) == answers(reference, questions)


@pytest.mark.usefixtures("original")
def test_a_tied_head_that_keeps_the_old_weights_is_named(engine, changed, monkeypatch):
    """On a CPU vLLM packs a copy of the tied embedding, which its own reload leaves as it was."""
    assert engine.llm.llm_engine.model_config.hf_config.tie_word_embeddings
    monkeypatch.setattr("sftbench.engines.vllm_worker.repack_heads", lambda *_: None)
    with pytest.raises(
        SftbenchError, match=f"{UNLIKE}.*its weights of the output head seem to be the old ones\n"
    ):
        engine.load(changed)


@pytest.mark.skipif(not on_cpu(), reason="only a CPU keeps packed copies")
@pytest.mark.usefixtures("original")
def test_a_tied_head_computes_with_the_packed_embedding_or_is_packed_again(
    engine, reference, clozes, changed
):
    def copies(worker):
        return packed(worker.model_runner.get_model())

    def repacked(worker):
        """Return the copies after a reload that, as far as one can see, has packed nothing."""
        model = worker.model_runner.get_model()
        repack_heads(model, packed(model))
        return packed(model)

    (old,) = engine.llm.collective_rpc(copies)
    engine.load(changed)
    reference.load(changed)
    (new,) = engine.llm.collective_rpc(copies)
    assert new["lm_head"] is new["model.embed_tokens"] is not old["lm_head"]
    assert answers(engine, clozes) == answers(reference, clozes)
    (again,) = engine.llm.collective_rpc(repacked)
    assert again["lm_head"] is not new["lm_head"]
    assert again["model.embed_tokens"] is new["model.embed_tokens"]
    assert answers(engine, clozes) == answers(reference, clozes)


@pytest.mark.usefixtures("original")
def test_weights_that_did_not_arrive_are_noticed(engine, weights, changed, monkeypatch):
    give(engine, weights, monkeypatch)
    with pytest.raises(
        SftbenchError, match=f"{UNLIKE}.*its weights of every tensor seem to be the old ones\n"
    ):
        engine.load(changed)


@pytest.mark.usefixtures("original")
def test_one_wrong_tensor_is_noticed(engine, tensors, changed, monkeypatch):
    name = "model.layers.1.mlp.down_proj.weight"
    give(engine, Held({**changed.tensors, name: tensors[name]}), monkeypatch)
    with pytest.raises(SftbenchError, match=UNLIKE):
        engine.load(changed)


@pytest.mark.usefixtures("original")
@pytest.mark.parametrize(
    ("part", "kept"),
    [
        ("q_proj", "the attention q projections"),
        ("self_attn.[qkv]_proj", "the attention q, k and v projections"),
        ("mlp", "the mlp projections"),
        ("norm", "the norms"),
        ("embed_tokens", "the embedding and the output head"),
    ],
)
def test_a_family_that_is_given_its_old_weights_is_named(
    engine, tensors, changed, monkeypatch, part, kept
):
    old = {name: tensor for name, tensor in tensors.items() if re.search(part, name)}
    give(engine, Held({**changed.tensors, **old}), monkeypatch)
    with pytest.raises(
        SftbenchError, match=f"{UNLIKE}.*its weights of {kept} seem to be the old ones\n"
    ):
        engine.load(changed)


@pytest.mark.usefixtures("original")
def test_a_family_that_the_loader_skips_is_named(engine, changed, monkeypatch):
    """vLLM only warns of it."""
    some = {name: one for name, one in changed.items() if "o_proj" not in name}
    give(engine, Held(some), monkeypatch)
    said = f"{UNLIKE}.*its weights of the attention o projections seem to be the old ones\n"
    with pytest.raises(SftbenchError, match=said):
        engine.load(changed)


@pytest.mark.usefixtures("original")
def test_weights_that_are_neither_old_nor_new_are_no_familys_fault(
    engine, tensors, changed, monkeypatch
):
    give(engine, Held(moved(tensors, 0.4, seed=9)), monkeypatch)
    with pytest.raises(SftbenchError, match=UNLIKE) as error:
        engine.load(changed)
    assert "seem to be" not in error.value.what


@pytest.mark.usefixtures("original")
def test_a_hundred_swaps_answer_alike_and_need_no_more_memory(
    engine, reference, weights, changed, tensors, questions, tmp_path, monkeypatch
):
    """Base, tuned model, a variant that is on no disk, and weights that are in memory only."""
    write_checkpoint(tmp_path / "tuned", moved(tensors, 0.4, seed=1), like=resolve("lab"))
    pair = Pair.open(resolve("lab"), tmp_path / "tuned")
    (planned,) = plan(pair, [parse_rule("relative,40%")])
    variants = (weights, Folder(pair.tuned.path), RestoredWeights(pair, planned), changed)
    asked, wanted = questions[:8], []
    for one in variants:
        reference.load(one)
        wanted.append(answers(reference, asked))
    assert all(a != b for a, b in combinations(wanted, 2))
    sizes = []
    assert engine._one_process
    for number in range(100):
        # Sometimes the worker makes the weights by itself, as one in another process does.
        monkeypatch.setattr(engine, "_one_process", number % 7 > 2)
        which = number * (number + 1) // 2 % len(variants)  # also the same twice in a row
        engine.load(variants[which])
        assert answers(engine, asked) == wanted[which]
        if number % 10 == 9:  # once in ten: collecting garbage takes its time
            sizes.append(resident() - CPU_CACHE_GIB * 2**30)
    assert sizes[-1] < 1.05 * sizes[0]


def test_weights_that_do_not_fit_are_refused_by_name(engine, tensors, clozes):
    before = answers(engine, clozes)
    name = next(name for name in tensors if "layers.0" in name)
    with pytest.raises(SftbenchError, match="missing"):
        engine.load(Held({other: one for other, one in tensors.items() if other != name}))
    with pytest.raises(SftbenchError, match="unknown extra"):
        engine.load(Held({**tensors, "extra": torch.zeros(1)}))
    with pytest.raises(SftbenchError, match="shape"):
        engine.load(Held({**tensors, name: tensors[name][:1]}))
    assert answers(engine, clozes) == before


def test_weights_that_are_not_numbers_are_refused_and_leave_no_trace(engine, weights, questions):
    """NaN in vLLM's cache of keys and values would spoil the answers of good weights too."""
    before = answers(engine, questions)
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items()}
    with pytest.raises(SftbenchError, match="not finite"):
        engine.load(Held(broken))
    assert answers(engine, questions) == before
    engine.load(weights)
    assert answers(engine, questions) == before


# -- around it ------------------------------------------------------------------------------------


def test_it_says_what_decides_its_numbers(engine):
    described = engine.describe()
    assert described["engine"] == "vllm"
    assert described["dtype"] == "float32"
    assert described["batch_size"] == str(AT_ONCE)
    assert described["block_size"] == str(BLOCK)
    assert any(name.startswith("vllm") for name in described)


@pytest.mark.parametrize(
    ("options", "said", "remedy"),
    [
        ({"tensor_paralel_size": 2}, "no option tensor_paralel_size", "tensor_parallel_size?"),
        ({"max_num_seqs": 2}, "max_num_seqs cannot be set here: use --batch-size", None),
        ({"model": "x"}, "model cannot be set here", None),
    ],
)
def test_options_that_are_not_possible_are_named(options, said, remedy):
    settings = EngineSettings("vllm", options=tuple(options.items()))
    with pytest.raises(SftbenchError, match=said) as error:
        make_engine(resolve("lab"), settings)
    assert remedy is None or remedy in error.value.remedy


@pytest.mark.usefixtures("original")
def test_lm_eval_asks_the_live_engines_alike(engine, reference, questions, rows, changed):
    from lm_eval.api.instance import Instance

    from sftbench.harness.live import lm_of

    def ask(lm):
        wanted = {"until": ["\n"], "max_gen_toks": 12, "do_sample": False}
        generate = [
            Instance("generate_until", {}, (text, wanted), i) for i, text in enumerate(questions)
        ]
        score = [
            Instance("loglikelihood", {}, (text, f" {row['answers'][0]}"), i)
            for i, (text, row) in enumerate(zip(questions, rows, strict=True))
        ]
        return (
            lm.generate_until(generate, disable_tqdm=True),
            lm.loglikelihood(score, disable_tqdm=True),
        )

    models = lm_of(engine), lm_of(reference)
    seen = []
    for weights in (changed, Folder(resolve("lab"))):
        engine.load(weights)
        reference.load(weights)
        (ours, our_scores), (theirs, their_scores) = map(ask, models)
        assert ours == theirs == [one.text for one in answers(engine, questions)]
        for (one, greedy), (other, also) in zip(our_scores, their_scores, strict=True):
            assert one == pytest.approx(other, abs=1e-4)
            assert greedy == also
        seen.append(ours)
    assert seen[0] != seen[1]
