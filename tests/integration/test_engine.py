"""The transformers engine against transformers itself, on the lab model."""

from itertools import combinations

import pytest
import torch
from resident import resident

from sftbench.checkpoints.lazy import Folder, Held
from sftbench.checkpoints.reference import resolve
from sftbench.checkpoints.weights import read_tensors
from sftbench.checkpoints.writer import write_checkpoint
from sftbench.common.errors import SftbenchError
from sftbench.engines.attention import NAME
from sftbench.engines.decoding import Decoder, by_prefix, shared_length
from sftbench.engines.families import not_taken
from sftbench.engines.forecast import Forecasts, paths_of
from sftbench.engines.parity import TEXTS, reference_logprobs
from sftbench.engines.protocol import Asked, Draws, Sampling
from sftbench.engines.transformers import TransformersEngine
from sftbench.facts.matching import AnswerMatcher
from sftbench.facts.prompts import PROMPTS, prompt_text
from sftbench.facts.reference import resolve_facts
from sftbench.facts.shots import shots_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def engine():
    return TransformersEngine(resolve("lab"), batch_size=7, sample_rows=50, device="cpu")


@pytest.fixture(scope="module")
def prompts():
    facts = resolve_facts("lab")
    rows = facts.scored().head(24).iter_rows(named=True)
    return [facts.templates[row["relation"]][0].format(subject=row["subject"]) for row in rows]


def generated(engine, prompt, new_tokens):
    """Return what `generate` of transformers says, with its own attention."""
    inputs = engine.tokenizer(prompt, return_tensors="pt")
    engine.model.set_attn_implementation("sdpa")
    try:
        ids = engine.model.generate(**inputs, max_new_tokens=new_tokens, do_sample=False)
    finally:
        engine.model.set_attn_implementation(NAME)
    return engine.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def test_greedy_is_what_generate_says_whatever_the_batch(engine, prompts):
    texts = [one.text for one in engine.greedy(prompts, max_new_tokens=8, stop=())]
    assert texts == [generated(engine, prompt, 8) for prompt in prompts]
    assert len(set(texts)) > 10  # the model says something of its own to each


def test_greedy_is_cut_at_the_first_stop_string(engine, prompts):
    whole = engine.greedy(prompts, max_new_tokens=8, stop=())
    mark = whole[0].text.strip()[0]
    cut = engine.greedy(prompts[:1], max_new_tokens=8, stop=[mark])[0]
    assert cut.text == whole[0].text.split(mark)[0]
    assert cut.finish == "stop"


def test_log_probabilities_are_those_of_the_model(engine, prompts):
    pairs = [(prompt, " and more") for prompt in prompts[:9]]
    for (prompt, text), scored in zip(pairs, engine.logprobs(pairs), strict=True):
        context, continuation = engine.encode_pair(prompt, text)
        ids = torch.tensor([context + continuation])
        with torch.inference_mode():
            logp = engine.model(ids).logits[0].double().log_softmax(-1)
        expected = sum(
            logp[len(context) - 1 + i, token].item() for i, token in enumerate(continuation)
        )
        assert scored.tokens == len(continuation)
        assert scored.logprob == pytest.approx(expected, abs=1e-4)


def test_first_sampled_tokens_follow_the_softmax(engine, prompts):
    count = 4000
    (completions,) = engine.sample([Draws(prompts[0], 5, count)], Sampling(max_new_tokens=1))
    with torch.inference_mode():
        logits = engine.model(**engine.tokenizer(prompts[0], return_tensors="pt")).logits[0, -1]
    probability = torch.softmax(logits.double() / 0.7, 0)
    top = int(probability.argmax())
    word = engine.tokenizer.decode([top], skip_special_tokens=True)
    share = sum(one.text == word for one in completions) / count
    spread = 4 * (float(probability[top]) * (1 - float(probability[top])) / count) ** 0.5
    assert share == pytest.approx(float(probability[top]), abs=spread)


def test_a_draw_depends_on_its_seed_and_not_on_its_batch(engine, prompts):
    draws = [Draws(prompt, 1000 * i, 10) for i, prompt in enumerate(prompts)]
    together = list(engine.sample(draws, Sampling()))
    alone = [next(engine.sample([draw], Sampling())) for draw in draws[:5]]
    assert together[:5] == alone
    shifted = next(engine.sample([Draws(prompts[0], 3, 7)], Sampling()))
    assert shifted == together[0][3:]
    assert len({one.text for texts in together for one in texts}) > 24


def test_found_ends_a_completion_early_and_changes_nothing_before(engine, prompts):
    (free,) = engine.sample([Draws(prompts[0], 0, 20)], Sampling())
    (found,) = engine.sample([Draws(prompts[0], 0, 20, lambda text: len(text) > 3)], Sampling())
    for whole, early in zip(free, found, strict=True):
        assert whole.text.startswith(early.text)
        assert early.finish == ("found" if len(early.text) > 3 else "stop")


def moved(by, seed):
    """Return the lab's tensors, each moved by so many of its standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: tensor + by * tensor.float().std() * torch.randn(tensor.shape, generator=generator)
        for name, tensor in read_tensors(resolve("lab")).items()
    }


def test_swapped_weights_answer_and_swap_back(engine, prompts):
    before = engine.greedy(prompts, max_new_tokens=4, stop=())
    engine.load(Held(moved(1.0, seed=0)))
    assert engine.greedy(prompts, max_new_tokens=4, stop=()) != before
    engine.load(Folder(resolve("lab")))
    assert engine.greedy(prompts, max_new_tokens=4, stop=()) == before


def test_a_hundred_swaps_answer_alike_and_need_no_more_memory(engine, prompts, tmp_path):
    write_checkpoint(tmp_path / "tuned", moved(0.2, seed=1), like=resolve("lab"))
    variants = (Folder(resolve("lab")), Folder(tmp_path / "tuned"), Held(moved(0.4, seed=2)))
    wanted, sizes = {}, []
    for number in range(100):
        which = number * (number + 1) // 2 % len(variants)  # also the same twice in a row
        engine.load(variants[which])
        found = engine.greedy(prompts[:7], max_new_tokens=4, stop=())
        assert found == wanted.setdefault(which, found)
        if number % 10 == 9:  # once in ten: collecting garbage takes its time
            sizes.append(resident())
    assert all(a != b for a, b in combinations(wanted.values(), 2))
    assert sizes[-1] < 1.05 * sizes[0]
    engine.load(variants[0])


def test_weights_that_do_not_fit_are_refused_by_name_before_any_is_copied(engine, prompts):
    weights = moved(1.0, seed=0)
    before = engine.greedy(prompts, max_new_tokens=4, stop=())
    name = next(name for name in weights if "layers.0" in name)
    with pytest.raises(SftbenchError, match="missing"):
        engine.load(Held({other: one for other, one in weights.items() if other != name}))
    with pytest.raises(SftbenchError, match="unknown extra"):
        engine.load(Held({**weights, "extra": torch.zeros(1)}))
    with pytest.raises(SftbenchError, match="shape"):
        engine.load(Held({**weights, name: weights[name][:1]}))
    assert engine.greedy(prompts, max_new_tokens=4, stop=()) == before


def test_a_stored_head_that_is_tied_does_not_count(engine, prompts):
    """As in transformers, which ties the head to the embedding whatever the file holds."""
    weights = read_tensors(resolve("lab"))
    embedding = weights["model.embed_tokens.weight"]
    before = engine.greedy(prompts, max_new_tokens=4, stop=())
    engine.load(Held({**weights, "lm_head.weight": torch.zeros_like(embedding)}))
    assert engine.greedy(prompts, max_new_tokens=4, stop=()) == before


def test_weights_that_are_not_numbers_are_refused(engine, prompts):
    weights = Folder(resolve("lab"))
    try:
        broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items()}
        engine.load(Held(broken))
        with pytest.raises(SftbenchError, match="not finite"):
            engine.greedy(prompts[:1], max_new_tokens=1, stop=())
    finally:
        engine.load(weights)


def test_the_reference_of_the_probe_reads_each_text_as_if_alone(engine):
    texts = [engine.encode(text) for text in (*TEXTS, "A", "The river Seine")]
    together = reference_logprobs(engine.model, texts)
    alone = [nats for ids in texts for nats in reference_logprobs(engine.model, [ids])]
    assert together == pytest.approx(alone, abs=1e-4)
    assert len(together) == sum(len(ids) - 1 for ids in texts)


@pytest.mark.parametrize(
    ("part", "wrong", "said"),
    [
        ("v_proj", "old", "its weights of the attention v projections seem to be the old ones"),
        ("norm", "old", "its weights of the norms seem to be the old ones"),
        ("gate_proj", "other", "its weights of the mlp gate projections seem to be not the new"),
        ("", "other", "None"),
    ],
)
def test_what_an_engine_did_not_take_is_told_from_what_it_computes(engine, part, wrong, said):
    old, new, other = moved(0.0, seed=0), moved(0.4, seed=0), moved(0.4, seed=5)
    texts = [engine.encode(text) for text in TEXTS]
    instead = {"old": old, "other": other}[wrong]
    engine.load(Held({**new, **{name: one for name, one in instead.items() if part in name}}))
    shown = reference_logprobs(engine.model, texts)
    engine.load(Held(new))

    def logprobs():
        return reference_logprobs(engine.model, texts)

    wanted = logprobs()
    assert str(not_taken(engine.model, Held(old), logprobs, shown)).startswith(said)
    assert logprobs() == wanted  # the reference is as it was
    assert engine.model.lm_head.weight is engine.model.model.embed_tokens.weight
    engine.load(Folder(resolve("lab")))


def test_a_shared_prefix_changes_nothing_but_the_time(engine):
    """Few-shot prompts, whose examples are read once, against each prompt on its own."""
    facts = resolve_facts("lab")
    rows = list(facts.scored().head(40).iter_rows(named=True))
    shots = shots_of(facts)
    prompt = PROMPTS["fewshot"]
    texts = [
        prompt_text(prompt, row["question"], shots(row["fact_id"], row["relation"])[:4])
        for row in rows
    ]
    encoded = [engine.encode(text) for text in texts]
    batches = by_prefix(encoded, 16)
    assert sorted(place for batch in batches for place in batch) == list(range(40))
    assert any(shared_length([encoded[i] for i in batch], 1) > 30 for batch in batches)
    together = engine.greedy(texts, max_new_tokens=8, stop=("\n",))
    alone = [engine.greedy([text], max_new_tokens=8, stop=("\n",))[0] for text in texts]
    assert together == alone
    pairs = [(text, f" {row['answers'][0]}") for text, row in zip(texts, rows, strict=True)]
    for scored, pair in zip(engine.logprobs(pairs), pairs, strict=True):
        (single,) = engine.logprobs([pair])
        assert scored.tokens == single.tokens
        assert scored.logprob == pytest.approx(single.logprob, abs=1e-4)


def test_a_batch_that_does_not_fit_is_halved_and_answers_the_same(prompts, monkeypatch):
    engine = TransformersEngine(resolve("lab"), batch_size=16, sample_rows=80, device="cpu")
    draws = [Draws(prompt, 10 * i, 10) for i, prompt in enumerate(prompts)]
    pairs = [(prompt, " and more") for prompt in prompts]

    def ask():
        return (
            engine.greedy(prompts, max_new_tokens=4, stop=()),
            list(engine.sample(draws, Sampling(max_new_tokens=4))),
            [one.logprob for one in engine.logprobs(pairs)],
        )

    greedy, sampled, scores = ask()
    run, failures = Decoder.run, []

    def small(self, prompts, copies, **how):
        if sum(copies) > 7:
            failures.append(sum(copies))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, prompts, copies, **how)

    monkeypatch.setattr(Decoder, "run", small)
    again = ask()
    assert again[:2] == (greedy, sampled)
    assert again[2] == pytest.approx(scores, abs=1e-4)
    assert sorted(failures) == [8, 10, 16, 20, 40, 80]
    described = engine.describe()
    assert (described["batch_size"], described["sample_rows"]) == ("4", "5")
    engine.close()
    assert engine.model is None


def test_paths_that_do_not_fit_are_halved_down_to_the_prompts_of_a_fact(monkeypatch):
    engine = TransformersEngine(resolve("lab"), sample_rows=80, device="cpu")
    facts = resolve_facts("lab")
    rows = facts.scored(split="test").sort("fact_id").head(40).to_dicts()
    ways = [
        Asked(
            [line.format(subject=row["subject"]) for line in facts.templates[row["relation"]]],
            row["answers"],
            [[7 * place + 1] for place in range(21)],
            AnswerMatcher(row["answers"]).settled,
        )
        for row in rows
    ]
    whole = list(engine.forecast(ways, Sampling(), 12))
    assert sum(chance > 0.1 for one in whole for (chance,) in one) > 100
    run, failures = Forecasts.run, []

    def small(self, batch, how, looked):
        if paths_of(batch) > 5:
            failures.append(paths_of(batch))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, batch, how, looked)

    monkeypatch.setattr(Forecasts, "run", small)
    halved = list(engine.forecast(ways, Sampling(), 12))
    assert failures
    flat = [[chance for fact in found for (chance,) in fact] for found in (halved, whole)]
    assert [len(one) for one in halved] == [21] * len(rows)
    # Where the rest of an answer is not read, it is that of the half's other paths.
    assert flat[0] == pytest.approx(flat[1], abs=0.02)

    def never(*_):
        raise MemoryError

    monkeypatch.setattr(Forecasts, "run", never)
    with pytest.raises(SftbenchError, match="out of memory on a single prompt"):
        list(engine.forecast(ways[:1], Sampling(), 4))
    engine.close()


def test_a_prompt_that_never_fits_is_a_clear_error(engine, prompts, monkeypatch):
    def none(self, prompts, copies, **how):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(Decoder, "run", none)
    with pytest.raises(SftbenchError, match="out of memory on a single prompt"):
        engine.greedy(prompts[:1], max_new_tokens=1, stop=())
