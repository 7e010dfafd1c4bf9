"""Trees of tokens read as texts are, and chances of a statement that sampling bears out."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from sftbench.common.errors import SftbenchError
from sftbench.engines.forecast import Forecasts, together, word_ends
from sftbench.engines.forest import Forest, require_trees
from sftbench.engines.protocol import Asked, Sampling
from sftbench.engines.tokens import Codec

pytestmark = pytest.mark.unit

WORDS = ("x", " Rome", " Oslo", " the", " city", " of", "s", ".", " New", " York", "\n", " is")
END = len(WORDS)
SMALL = {
    "vocab_size": END + 1,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


class Tokenizer:
    """Every word of `WORDS` is one token; the last id ends a text."""

    bos_token = None
    pad_token_id = END
    eos_token_id = END

    def __call__(self, text, add_special_tokens=True):
        ids = []
        while text:
            word = max((word for word in WORDS if text.startswith(word)), key=len)
            ids.append(WORDS.index(word))
            text = text[len(word) :]
        return {"input_ids": ids}

    def decode(self, ids, skip_special_tokens=True):
        return "".join(WORDS[token] for token in ids if token < END)

    def __len__(self):
        return END + 1


def llama(seed=0):
    torch.manual_seed(seed)
    config = LlamaConfig(**SMALL, initializer_range=0.6)
    return LlamaForCausalLM(config).eval()


MODEL = llama()
CODEC = Codec(Tokenizer())
FORECASTS = Forecasts(MODEL, CODEC, frozenset({END}), word_ends(CODEC, END + 1, frozenset({END})))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_node_reads_what_its_ancestors_say(data):
    forest = Forest(MODEL, 2)
    told: list[dict[int, list[int]]] = [{-1: []}, {-1: []}]
    with torch.inference_mode():
        for _ in range(data.draw(st.integers(1, 3))):
            counts = [data.draw(st.integers(1, 4)) for _ in told]
            nodes = []
            for texts, numbers in zip(told, forest.numbers(counts), strict=True):
                own = []
                for number in numbers:
                    parent = data.draw(st.sampled_from(sorted(texts)))
                    token = data.draw(st.integers(0, END))
                    texts[number] = [*texts[parent], token]
                    own.append((parent, token))
                nodes.append(own)
            logits = forest.extend(nodes, wanted=max(counts))
            for row, texts in enumerate(told):
                for back in range(1, counts[row] + 1):
                    ids = texts[forest.size - back]
                    alone = MODEL(input_ids=torch.tensor([ids])).logits[0, -1]
                    assert torch.allclose(logits[row, -back], alone, atol=1e-4)


def test_one_tree_is_spread_over_the_rows():
    with torch.inference_mode():
        forest = Forest(MODEL, 1)
        forest.extend([[(-1, 3), (0, 4)]])
        forest.spread(3)
        logits = forest.extend([[(1, 5)], [(0, 6)], [(1, 7)]], wanted=1)
        for row, ids in enumerate(([3, 4, 5], [3, 6], [3, 4, 7])):
            alone = MODEL(input_ids=torch.tensor([ids])).logits[0, -1]
            assert torch.allclose(logits[row, 0], alone, atol=1e-4)


def test_trees_that_are_picked_go_on_alone():
    with torch.inference_mode():
        forest = Forest(MODEL, 3)
        forest.extend([[(-1, 3)], [(-1, 4), (0, 5)], [(-1, 6), (0, 7)]])
        picked = forest.pick([2, 0])
        logits = picked.extend([[(1, 8)], [(1, 8)]], wanted=1)
        assert forest.size == 2
        for row, ids in enumerate(([6, 7, 8], [3, 8])):
            alone = MODEL(input_ids=torch.tensor([ids])).logits[0, -1]
            assert torch.allclose(logits[row, 0], alone, atol=1e-4)


def test_models_that_read_trees_pass_and_others_are_named():
    require_trees(MODEL, [1, 2, 3, 4, 5])
    torch.manual_seed(1)
    other = GPT2LMHeadModel(GPT2Config(vocab_size=13, n_embd=32, n_layer=2, n_head=2)).eval()
    require_trees(other, [1, 2, 3, 4, 5])

    class Deaf(torch.nn.Module):
        """Takes the mask and does not heed it."""

        device = torch.device("cpu")
        config = MODEL.config

        def forward(self, attention_mask=None, position_ids=None, **kwargs):
            return MODEL(**kwargs)

        def parameters(self):
            return MODEL.parameters()

    with pytest.raises(SftbenchError, match=r"Deaf.*several continuations"):
        require_trees(Deaf(), [1, 2, 3, 4, 5])


def test_a_word_ends_before_spaces_marks_and_the_end_of_text():
    ends = {word: bool(end) for word, end in zip(WORDS, FORECASTS.ends_word, strict=False)}
    assert [word for word in WORDS if not ends[word]] == ["x", "s"]
    assert bool(FORECASTS.ends_word[END])


def stated(text, answers):
    """Whether an answer stands in the text as a word; what follows may still be missing."""
    return any(
        text.find(f" {answer}{mark}") >= 0 for answer in answers for mark in (" ", ".", "\n")
    )


def exact(prompt, answers, longest, temperature=0.7):
    """Return the chance of a statement by going through all completions."""
    total, open_ = 0.0, [(CODEC.encode(prompt), 1.0)]
    start = len(open_[0][0])
    for _ in range(longest):
        following = []
        ids = torch.tensor([ids for ids, _ in open_])
        with torch.inference_mode():
            chance = (MODEL(input_ids=ids).logits[:, -1] / temperature).softmax(dim=1)
        for (before, weight), row in zip(open_, chance.tolist(), strict=True):
            for token, share in enumerate(row):
                text = CODEC.text([*before, token][start:])
                over = f"{text} " if token == END else text
                if stated(over, answers):
                    total += weight * share
                elif token != END and weight * share > 1e-9:
                    following.append(([*before, token], weight * share))
        open_ = following
    # An answer at the very end is stated: nothing follows.
    ended = sum(w for ids, w in open_ if stated(CODEC.text(ids[start:]) + " ", answers))
    return total + ended


@pytest.mark.parametrize(
    ("prompt", "answers"),
    [("x is", ["Rome"]), ("x of", ["New York"]), ("x", ["Rome", "New York", "Oslo"])],
)
def test_forecasts_are_the_chances_of_a_statement(prompt, answers):
    paths, longest = 400, 4
    asked = Asked([prompt], answers, [list(range(paths))], lambda text: stated(text, answers))
    ((chances,),) = FORECASTS.run([asked], Sampling(0.7, longest), longest)
    mean = sum(chances) / paths
    error = (sum((one - mean) ** 2 for one in chances) / paths / paths) ** 0.5
    # A turn that begins an answer and does not go on is taken up by the path: nearly exact.
    assert mean == pytest.approx(exact(prompt, answers, longest), abs=0.02 + 4 * error)


def test_forecasts_vary_less_than_draws():
    asked = Asked(["x is"], ["Rome"], [list(range(300))], lambda text: stated(text, ["Rome"]))
    ((chances,),) = FORECASTS.run([asked], Sampling(0.7, 8), 8)
    mean = sum(chances) / 300
    assert 0.05 < mean < 0.95
    assert sum((one - mean) ** 2 for one in chances) / 300 < 0.5 * mean * (1 - mean)


def test_forecasts_do_not_depend_on_what_is_read_beside():
    lines = ["x is", "x is the", "x is the city of", "x of"]
    seeds = [[5, 6], [7, 8], [9, 10], [11, 12]]
    one = Asked(lines, ["Rome"], seeds, lambda text: stated(text, ["Rome"]))
    two = Asked(lines[1:], ["Oslo", "New York"], seeds[1:], lambda text: "Oslo " in text)
    how = Sampling(0.7, 8)
    alone = [FORECASTS.run([asked], how, 5)[0] for asked in (one, two)]
    beside = FORECASTS.run([one, two], how, 5)
    flat = [list(itertools.chain(*itertools.chain(*found))) for found in (alone, beside)]
    assert flat[0] == pytest.approx(flat[1], abs=1e-4)
    assert [len(row) for row in beside[1]] == [2, 2, 2]


def test_a_path_that_states_an_answer_after_all_counts_in_full():
    asked = Asked(["x is"], ["York"], [[1, 2, 3]], lambda text: True)
    ((chances,),) = FORECASTS.run([asked], Sampling(0.7, 8), 8)
    assert chances == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("answers", [["York", "Yorks"], ["New York"], ["York", "York Rome"]])
def test_answers_that_begin_alike_or_need_room_are_counted_once(answers):
    how = Sampling(0.7, 3)
    asked = Asked(["x York is"], answers, [list(range(600))], lambda text: stated(text, answers))
    ((chances,),) = FORECASTS.run([asked], how, 3)
    mean = sum(chances) / 600
    error = (sum((one - mean) ** 2 for one in chances) / 600 / 600) ** 0.5
    assert mean == pytest.approx(exact("x York is", answers, 3), rel=0.25, abs=4 * error)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_does_not_look_like_a_mask_that_is_not_heeded(dtype):
    for seed in range(5):
        require_trees(llama(seed).to(dtype), [1, 2, 3, 4, 5, 6, 7])


def test_layers_with_a_window_do_not_forget_nodes():
    config = MistralConfig(**SMALL, sliding_window=8)
    model = MistralForCausalLM(config).eval()
    with torch.inference_mode():
        forest = Forest(model, 1)
        for _ in range(4):
            forest.extend([[(-1, token) for token in range(5)]])
        logits = forest.extend([[(2, 4)]], wanted=1)[0, 0]
        alone = model(input_ids=torch.tensor([[2, 4]])).logits[0, -1]
    assert torch.allclose(logits, alone, atol=1e-4)


def test_no_more_tokens_are_followed_than_a_completion_has():
    asked = Asked(["x is"], ["Rome"], [[1, 2]], lambda text: stated(text, ["Rome"]))
    how = Sampling(0.7, 4)
    assert FORECASTS.run([asked], how, 9) == FORECASTS.run([asked], how, 4)


def test_many_facts_read_together_are_read_as_alone():
    ways = [
        Asked([start], answers, [[seed]], lambda text: False)
        for seed, (start, answers) in enumerate(
            itertools.product(
                ("x is", "x of", "x the city", "x"), (["Rome"], ["New York"], ["Oslo", "Rome"])
            )
        )
    ]
    together_ = FORECASTS.run(ways, Sampling(0.7, 6), 6)
    alone = [FORECASTS.run([one], Sampling(0.7, 6), 6)[0] for one in ways]
    for one, other in zip(together_, alone, strict=True):
        assert one[0] == pytest.approx(other[0], abs=1e-4)
    assert len({round(one[0][0], 4) for one in together_}) > 6


def test_batches_hold_as_many_paths_as_fit():
    asked = [Asked(["x"] * n, ["Rome"], [[0]] * n, bool) for n in (3, 3, 3, 9, 1)]
    assert [len(batch) for batch in together(asked, 6)] == [2, 1, 1, 1]
