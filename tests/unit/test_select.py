"""What a ranking restores, against full sorts: one written here, the oracle, and torch.topk.

The order that is promised: larger scores first; equal ones by tensor name (code-point order), then
by flat index. A size in scalars is met exactly, within equal scores too. A size by norm is met by
the shortest start of that order whose removed norm reaches it, where equal scores move alike;
else the last equal scores count as their mean, so that their number alone is approximate.
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from two_models import bits, in_pieces, pair_of, restored
from whole_model import rank

from sftbench.checkpoints import kernels, select
from sftbench.checkpoints.criteria import ranking_of
from sftbench.checkpoints.planning import plan
from sftbench.checkpoints.regions import is_ranked
from sftbench.checkpoints.rules import parse_rule
from sftbench.checkpoints.select import MOST_BINS, restored_count
from sftbench.common.digests import seed_of

pytestmark = pytest.mark.unit

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
NORMAL = (
    0.0, -0.0, 0.5, -0.5, 1.0, 1.5, -2.0, 1e-8, 3e-7, 0.1, 1.0078125, 6e-8, 60_000.0
)  # fmt: skip
"""Ties, zeros, and a subnormal of fp16."""
VALUES = (*NORMAL, 1e-40, -1e-45)
"""Subnormals of fp32 too, whose squares are zero in fp32."""
INSIDE = (
    "model.layers.0.mlp.up_proj.weight",
    "model.layers.10.q.weight",
    "model.layers.2.q.bias",
    "model.layers.2.q.weight",
    "model.Layers.layers.é",
)
OUTSIDE = ("model.embed_tokens.weight", "model.layers.0.input_layernorm.weight", "é")
SHAPES = ((), (0,), (1,), (5,), (2, 3), (3, 2, 2), (4, 0))

RANKINGS = [
    f"{criterion},{{}}{tail}"
    for criterion in ("relative", "absolute", "lowest-relative", "ties")
    for tail in ("", ",bf16", ",per-tensor", ",bf16,per-tensor")
] + ["random,{}", "random,{},draw=7", "random,{},per-tensor", "fapm,{}"]


@st.composite
def models(draw, dtypes=DTYPES, values=VALUES):
    """Two small models with many ties, zeros and unchanged scalars."""
    names = draw(st.lists(st.sampled_from(INSIDE), min_size=1, max_size=4, unique=True))
    names += draw(st.lists(st.sampled_from(OUTSIDE), max_size=1))
    base, tuned = {}, {}
    for number, name in enumerate(draw(st.permutations(names))):
        shape = (2, 3) if number == 0 and is_ranked(name) else draw(st.sampled_from(SHAPES))
        size = math.prod(shape)
        p = draw(st.lists(st.sampled_from(values), min_size=size, max_size=size))
        s = draw(st.lists(st.sampled_from((None, *values)), min_size=size, max_size=size))
        s = [old if new is None else new for old, new in zip(p, s, strict=True)]
        forms = draw(st.sampled_from(dtypes)), draw(st.sampled_from(dtypes))
        # fp32 values in every dtype: what fp64 holds beyond them is not looked at.
        base[name] = torch.tensor(p).reshape(shape).to(forms[0])
        tuned[name] = torch.tensor(s).reshape(shape).to(forms[1])
    if not any(is_ranked(name) and base[name].numel() for name in base):
        base[INSIDE[0]] = torch.tensor([1.0, 0.0, 2.0])
        tuned[INSIDE[0]] = torch.tensor([1.5, 0.0, 2.5])
    return base, tuned


percents = st.sampled_from(["0", "100", "12.5", "33.333333", "0.000001", "99.999999"]) | (
    st.decimals(0, 100, places=3).map("{:f}".format)
)


# --- a full sort, written apart from the code ----------------------------------------------------


def as_float32(tensor):
    return tensor.reshape(-1).float().numpy()


def scores_of(rule, name, base, tuned):
    """Return what one tensor's scalars are ranked by (larger first), and d as it is ranked."""
    p, s = as_float32(base), as_float32(tuned)
    if rule.arithmetic == "bf16":
        one, two = torch.from_numpy(p).bfloat16(), torch.from_numpy(s).bfloat16()
        p, s = one.float().numpy(), two.float().numpy()
        size = (two - one).abs()
        change = (size / (one.abs() + torch.tensor(1e-8, dtype=torch.bfloat16))).float().numpy()
        size = size.float().numpy()
    else:
        size = np.abs(s - p)
        change = size / (np.abs(p) + np.float32(1e-8))
    if rule.criterion == "random":
        seed = seed_of("restore", "random", rule.draw, name) % 2**32
        scores = [mixed(index ^ seed) for index in range(p.size)]
        if rule.measure != "scalars":  # the last of 65,536 keeps the order of places
            scores = [max(score, -(2**31) + 2**16) for score in scores]
    elif rule.criterion == "fapm":
        mean = np.float32(base.double().abs().mean()) if p.size else np.float32(0)
        scores = size - mean * size / (np.abs(p) + np.float32(1e-8))
    else:
        scores = change if "relative" in rule.criterion else size
    sign = -1 if rule.criterion in ("lowest-relative", "ties", "fapm") else 1
    return [sign * float(score) for score in scores], p, s


def mixed(x):
    """Mix 32 bits, twice over."""
    for _ in range(2):
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        x ^= x >> 16
    return x - 2**32 if x >= 2**31 else x


def orders_of(rule, base, tuned):
    """Return the scalars that are ranked, first restored first: one list for each ranking.

    An entry is (minus the score, name, flat index, squared d).
    """
    lists = []
    for name in sorted(base):
        if not is_ranked(name):
            continue
        scores, p, s = scores_of(rule, name, base[name], tuned[name])
        # Norms are of the models themselves, whatever the arithmetic of the scores.
        before, after = (model[name].float().reshape(-1) for model in (base, tuned))
        squares = (after[: len(p)] - before[: len(p)]).double() ** 2
        lists.append(
            [
                (-score, name, i, float(squares[i]))
                for i, score in enumerate(scores)
                if rule.measure == "scalars" or p[i] != s[i]
            ]
        )
    if not (rule.per_tensor or rule.criterion == "fapm"):
        lists = [[entry for one in lists for entry in one]]
    return [sorted(entries) for entries in lists]


def with_restored(base, tuned, chosen):
    result = {name: tensor.clone() for name, tensor in tuned.items()}
    for _, name, index, _ in chosen:
        written = base[name].to(tuned[name].dtype).reshape(-1)[index]
        result[name].reshape(-1)[index] = written
    return result


def require_same(result, expected):
    assert result.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (result[name].dtype, result[name].shape) == (tensor.dtype, tensor.shape)
        assert bits(result[name]) == bits(tensor), name


@settings(max_examples=100, deadline=None)
@given(models(), st.sampled_from(RANKINGS), st.lists(percents, min_size=1, max_size=3),
       st.sampled_from(["%", "%changed"]), st.sampled_from([3, 5, 1 << 22]))  # fmt: skip
def test_restores_what_a_full_sort_restores(pair, ranking, sizes, measure, piece):
    base, tuned = pair
    rules = list(dict.fromkeys(ranking.format(size + measure) for size in sizes))
    with in_pieces(piece):
        found = restored(pair_of(base, tuned), *rules)
    for planned, result in found:
        rule = planned.rule
        orders = orders_of(rule, base, tuned)
        chosen = [
            entry
            for order in orders
            for entry in order[: math.floor(len(order) * Fraction(rule.percent) / 100)]
        ]
        require_same(result, with_restored(base, tuned, chosen))
        assert planned.report.count == len(chosen) == sum(c.count for c in planned.cuts.values())


@settings(max_examples=100, deadline=None)
@given(models(), st.sampled_from(RANKINGS), percents, st.sampled_from([3, 1 << 22]))
def test_a_norm_is_reached_by_the_first_of_a_full_sort(pair, ranking, size, piece):
    base, tuned = pair
    with in_pieces(piece):
        ((planned, result),) = restored(pair_of(base, tuned), ranking.format(size + "%norm"))
    orders = orders_of(planned.rule, base, tuned)
    chosen = []
    for order in orders:
        if order:
            cut = planned.cut(order[0][1])
            chosen += order[: cut.count]
            require_norm_reached(order, cut.count, planned.rule.percent)
    require_same(result, with_restored(base, tuned, chosen))
    assert planned.report.count == len(chosen)


def require_norm_reached(order, count, percent):
    target = float(percent / 100) ** 2 * math.fsum(square for *_, square in order)
    if not count:
        assert percent == 0
        return
    assert percent > 0
    score = order[count - 1][0]
    above = [square for mine, _, _, square in order if mine < score]
    equal = [square for mine, _, _, square in order if mine == score]
    slack = 1e-9 * target
    assert math.fsum(above) < target + slack, "fewer of other scores would not do"
    assert math.fsum([*above, *equal]) >= target - slack
    if max(equal) <= min(equal) * (1 + 1e-12):
        removed = [square for *_, square in order[:count]]
        assert math.fsum(removed) >= target - slack
        assert percent == 100 or math.fsum(removed[:-1]) < target + slack, "one fewer would not do"
    else:
        mean = math.fsum(equal) / len(equal)
        assert count - len(above) == pytest.approx((target - math.fsum(above)) / mean, abs=1.001)


@pytest.mark.parametrize("ranking", RANKINGS)
def test_a_share_of_the_norm_of_a_larger_update(ranking):
    """Nearly all scores differ here: what is removed is the norm asked for, to a part in 10^3."""
    generator = torch.Generator().manual_seed(5)
    names = INSIDE[:3]
    base = {name: 0.02 * torch.randn(40, 50, generator=generator) for name in names}
    tuned = {name: p + 1e-3 * torch.randn(40, 50, generator=generator) for name, p in base.items()}
    base = {name: p.bfloat16().float() for name, p in base.items()}
    tuned = {name: s.bfloat16().float() for name, s in tuned.items()}  # bf16 sees all of it
    for percent in (10, 60, 95):
        ((planned, _),) = restored(pair_of(base, tuned), ranking.format(f"{percent}%norm"))
        assert planned.report.l2_removed == pytest.approx(percent / 100, rel=0.03, abs=0.01)


# --- the oracle ----------------------------------------------------------------------------------

EXACT = (
    "percent", "arithmetic", "region", "count", "unchanged", "unchanged_share", "zero_base",
    "zero_base_restored", "equals_base", "equals_tuned", "changed",
)  # fmt: skip
SHARES = (
    "zero_base_change_share", "change_share", "change_share_without_zero_base", "l1_removed",
    "l2_removed",
)  # fmt: skip


def require_agreement(base, tuned, planned, result, ranking):
    expected, figures = ranking.apply(planned.rule.percent)
    require_same(result, expected)
    for name in EXACT:
        assert getattr(planned.report, name) == getattr(figures, name), name
    threshold = None if planned.rule.percent == 100 else figures.threshold
    assert planned.report.threshold == threshold
    for name in SHARES:
        share = pytest.approx(getattr(figures, name), rel=1e-6, abs=1e-6)
        assert getattr(planned.report, name) == share, name


@settings(max_examples=60, deadline=None)
@given(
    models(values=NORMAL), st.sampled_from(["", ",bf16"]), percents, st.sampled_from([2, 1 << 22])
)
def test_agrees_with_the_oracle(pair, arithmetic, percent, piece):
    base, tuned = pair
    rules = [f"relative,{size}%{arithmetic}" for size in dict.fromkeys([percent, "0", "100"])]
    oracle = rank(base, tuned, arithmetic[1:] or "fp32")
    with in_pieces(piece):
        for planned, result in restored(pair_of(base, tuned), *rules):
            require_agreement(base, tuned, planned, result, oracle)


@pytest.fixture(scope="module")
def larger():
    """Two models of some size: zeros in the base, scalars that did not change, tied heads."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    names = [f"model.layers.{i}.mlp.{m}.weight" for i in (0, 2, 10) for m in ("down", "up")]
    base = {name: 0.02 * random(60, 70) for name in names}
    base |= {"model.embed_tokens.weight": random(9, 5), "model.layers.0.norm.weight": random(5)}
    tuned = {
        name: p + 2e-4 * random(*p.shape) * (random(*p.shape) > -0.5) for name, p in base.items()
    }
    base[names[0]].view(-1)[::37] = 0
    tuned[names[1]].view(-1)[::11] = base[names[1]].view(-1)[::11]
    return base, tuned


@pytest.mark.parametrize("arithmetic", ["fp32", "bf16"])
@pytest.mark.parametrize("dtypes", ["F32 F32", "BF16 BF16", "BF16 F32", "F32 BF16", "F16 F64"])
def test_agrees_with_the_oracle_on_larger_models(larger, arithmetic, dtypes):
    forms = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    forms["F64"] = torch.float64
    base, tuned = (
        {name: tensor.to(forms[form]) for name, tensor in model.items()}
        for model, form in zip(larger, dtypes.split(), strict=True)
    )
    oracle = rank(base, tuned, arithmetic)
    rules = [
        f"relative,{k}%,{arithmetic}" for k in ("0", "0.01", "1", "5", "20", "60", "99", "100")
    ]
    with in_pieces(1000):
        for planned, result in restored(pair_of(base, tuned), *rules):
            require_agreement(base, tuned, planned, result, oracle)


# --- torch.topk ----------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(models(), percents, st.sampled_from(["fp32", "bf16"]))
def test_torch_topk_agrees_outside_the_ties(pair, percent, arithmetic):
    """The authors rank with torch.topk, which settles ties at the threshold as it likes."""
    base, tuned = pair
    both = pair_of(base, tuned)
    rule = parse_rule(f"relative,{percent}%,{arithmetic}")
    (planned,) = plan(both, [rule])
    ranking = ranking_of(rule)
    scores, masks = [], []
    for name in both.region("blocks"):
        scores += scores_of(rule, name, base[name], tuned[name])[0]
        piece = both.piece(name, 0, both.size(name))
        keys = np.empty(both.size(name), np.int32)
        kernels.keys(ranking.how(both, name), piece.base, piece.tuned, 0, keys)
        for start, stop, key in planned.cut(name).parts(name, 0, both.size(name)):
            masks.append(keys[start:stop] >= key)
    changes, ours = torch.tensor(scores), torch.from_numpy(np.concatenate(masks))
    count = restored_count(len(changes), rule.percent)
    theirs = torch.zeros_like(ours)
    theirs[torch.topk(changes, count).indices] = True
    assert int(ours.sum()) == int(theirs.sum()) == count == planned.report.count
    differing = changes[ours != theirs]
    assert len(differing) == 0 or torch.all(differing == planned.report.threshold)


# --- order, pieces, threads, counts --------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 2, 3, 4, 100])
def test_ties_go_to_the_first_name_then_the_first_index(piece):
    names = ["layers.2.b", "layers.10.b", "layers.1.b"]
    base = {name: torch.ones(3) for name in names}
    tuned = {name: torch.full((3,), 2.0) for name in names}
    with in_pieces(piece):
        ((_, result), (_, less), (_, own)) = restored(
            pair_of(base, tuned), "relative,50%", "relative,12%", "ties,34%,per-tensor"
        )
    assert result["layers.1.b"].tolist() == [1, 1, 1]  # "." sorts before "0"
    assert result["layers.10.b"].tolist() == [1, 2, 2]
    assert result["layers.2.b"].tolist() == [2, 2, 2]
    assert [less[name].tolist() for name in names] == [[2, 2, 2], [2, 2, 2], [1, 2, 2]]
    assert [own[name].tolist() for name in names] == [[1, 2, 2]] * 3


def test_ties_that_cross_the_blocks_of_a_kernel():
    size = 3 * 2048 + 5
    base, tuned = {"layers.w": torch.ones(size)}, {"layers.w": torch.full((size,), 2.0)}
    for piece in (1 << 22, 2049):
        with in_pieces(piece):
            for planned, result in restored(
                pair_of(base, tuned), "relative,33%", "absolute,33%,bf16", "relative,66.6%norm"
            ):
                count = planned.report.count
                assert count in (int(size * 0.33), math.ceil(size * 0.666**2))
                assert torch.equal(result["layers.w"], 1.0 + (torch.arange(size) >= count))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_depend_neither_on_pieces_nor_on_threads(larger, threads):
    pair = pair_of(
        *({name: tensor.bfloat16() for name, tensor in model.items()} for model in larger)
    )
    rules = ("relative,5%", "relative,5%,bf16", "absolute,30%norm", "random,10%changed",
             "fapm,80%", "dare,30%")  # fmt: skip
    whole = restored(pair, *rules)
    with in_pieces(999, threads):
        parts = restored(pair, *rules)
    for (planned, result), (expected, tensors) in zip(parts, whole, strict=True):
        require_same(result, tensors)
        assert planned.report.count == expected.report.count
        assert planned.report.threshold == expected.report.threshold
        assert planned.report.l2_removed == pytest.approx(expected.report.l2_removed, rel=1e-6)


def test_rules_planned_together_are_those_planned_alone(larger):
    pair = pair_of(*larger)
    rules = [
        f"relative,{k}%{of}"
        for k in ("0", "3", "3.5", "50", "100")
        for of in ("", "changed", "norm")
    ]
    together = restored(pair, *rules)
    for rule, (planned, result) in zip(rules, together, strict=True):
        ((alone, tensors),) = restored(pair, rule)
        assert alone.cuts == planned.cuts
        assert alone.report == planned.report
        require_same(result, tensors)


def test_many_sizes_at_once():
    """More of them than one pass over the lower bits takes, and than fit a byte."""
    generator = torch.Generator().manual_seed(0)
    base = {"layers.w": torch.randn(100, 100, generator=generator)}
    wide = torch.exp(5 * torch.randn(100, 100, generator=generator))
    tuned = {"layers.w": base["layers.w"] + wide}
    sizes = [Decimal(k) / 4 for k in range(1, 400)]
    planned = plan(pair_of(base, tuned), [parse_rule(f"relative,{size:f}%") for size in sizes])
    assert len({one.cut("").key >> 16 for one in planned}) > 256 > MOST_BINS
    assert [one.report.count for one in planned] == [int(100 * size) for size in sizes]


@pytest.mark.parametrize("bins", [1, 48])
def test_wrong_guesses_cost_a_pass_and_change_nothing(larger, monkeypatch, bins):
    pair = pair_of(*larger)
    rules = ("relative,0.01%", "relative,40%", "relative,99.9%", "absolute,70%changed,per-tensor",
             "lowest-relative,40%norm", "random,3%")  # fmt: skip
    expected = restored(pair, *rules)
    passes = []
    count = select._count
    monkeypatch.setattr(select, "_count", lambda *a, **k: passes.append(a[3]) or count(*a, **k))
    monkeypatch.setattr(select, "_guess", lambda *_: [7])
    monkeypatch.setattr(select, "MOST_BINS", bins)
    found = restored(pair, *rules)
    assert len(passes) > 4 + 6, (
        "more than one for each ranking, of each tensor where it has its own"
    )
    for (planned, result), (right, tensors) in zip(found, expected, strict=True):
        assert (planned.cuts, planned.report) == (right.cuts, right.report)
        require_same(result, tensors)


def test_many_small_tensors_do_not_mislead_the_guess(monkeypatch):
    """Of a small tensor a larger part is in the sample; here they change ten times as much."""
    generator = torch.Generator().manual_seed(0)
    shapes = {f"layers.{i}.small": (30, 100) for i in range(40)} | {"layers.0.wide": (3000, 400)}
    base = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tuned = {
        name: p + (0.1 if "small" in name else 0.01) * torch.randn(p.shape, generator=generator)
        for name, p in base.items()
    }
    passes = []
    count = select._count
    monkeypatch.setattr(select, "_count", lambda *a, **k: passes.append(a[3]) or count(*a, **k))
    plan(pair_of(base, tuned), [parse_rule(f"relative,{k}%") for k in (5, 20, 60)])
    assert len(passes) == 1


def test_one_ranking_serves_many_percentages(larger):
    pair = pair_of(*larger)
    found = restored(pair, *(f"relative,{k}%" for k in (1, 5, 20, 60)))
    base = larger[0]
    kept = [{n: t != base[n] for n, t in result.items() if is_ranked(n)} for _, result in found]
    for small, large in zip(kept[1:], kept, strict=False):
        assert all(bool((small[name] <= large[name]).all()) for name in small)
    assert [planned.report.count for planned, _ in found] == [
        int(25_200 * k / 100) for k in (1, 5, 20, 60)
    ]


def test_the_last_changed_scalars_of_a_random_order_are_counted():
    """One random number in 65,536 falls into the bin of the scalars that did not change."""
    size = 1 << 20
    base, tuned = {"layers.w": torch.zeros(size)}, {"layers.w": torch.zeros(size)}
    tuned["layers.w"][: size // 2] = 1
    ((half, result), (all_, everything)) = restored(
        pair_of(base, tuned), "random,50%changed", "random,100%changed"
    )
    assert half.report.count == half.cut("").count == size // 4 == int(result["layers.w"].sum())
    assert all_.report.count == all_.cut("").count == size // 2
    assert not everything["layers.w"].any()


def test_draws_differ_and_are_fair():
    size = 40_000
    base, tuned = {"layers.w": torch.zeros(size)}, {"layers.w": torch.ones(size)}
    first, second = (
        result["layers.w"] == 0
        for _, result in restored(pair_of(base, tuned), "random,30%", "random,30%,draw=2")
    )
    assert int(first.sum()) == int(second.sum()) == 12_000
    assert int((first & second).sum()) == pytest.approx(0.09 * size, rel=0.05)
    quarters = first.reshape(4, -1).sum(1).tolist()
    assert quarters == pytest.approx([3000] * 4, rel=0.05)


@given(st.integers(0, 10**12), st.decimals(0, 100, places=6))
def test_the_count_is_exact(scalars, percent):
    millionths = int(percent * 10**6)
    assert restored_count(scalars, percent) == scalars * millionths // (100 * 10**6)


def test_the_count_does_not_suffer_from_binary_fractions():
    assert int(10_000 * (0.29 / 100)) == 28  # what floats make of 29
    assert restored_count(10_000, Decimal("0.29")) == 29
    with pytest.raises(ValueError, match=r"100.5 % is not between 0 and 100 %"):
        restored_count(10, Decimal("100.5"))
