"""The grammar of restore rules: read back from names and file names, refused in plain words."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sftbench.checkpoints.rules import (
    BY_NORM,
    BY_TENSOR,
    CRITERIA,
    DRAWN,
    REGIONS,
    ROUNDED,
    RULE_FORM,
    RULE_GRAMMAR,
    Restored,
    parse_percent,
    parse_region,
    parse_rule,
    parse_size,
    parse_sizes,
    parse_slug,
    rule_of,
)
from sftbench.checkpoints.variants import parse_variant
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

ODD = "-,%[](){}.*+?|^$\\=/~_'\"<>:;!#&@ab0Zé中\x00"
START = "tuned+restore-"
KNOWN_CRITERIA = f"known: {', '.join(CRITERIA)}"
KNOWN_REGIONS = f"known: {', '.join(REGIONS)}"


def is_regex(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return re.search(r",draw=[0-9]+$", pattern) is None


patterns = st.text(ODD, min_size=1, max_size=12) | st.sampled_from(
    ["layers\\.[0-3]\\.", "(q|k)_proj", "a,b", "5%", "match=x", "draw=2", "-", "%2D", "a{1,3}",
     "x-y-draw=3"]
)  # fmt: skip
layer_ranges = st.tuples(st.integers(0, 200), st.integers(0, 200)).map(
    lambda ends: f"{ends[0]}-{ends[1]}" if ends[0] <= ends[1] else f"{ends[0]}"
)
regions = (
    st.sampled_from(REGIONS)
    | st.lists(layer_ranges, min_size=1, max_size=3).map(lambda parts: f"layers={'+'.join(parts)}")
    | patterns.filter(is_regex).map("match={}".format)
)


@st.composite
def rules(draw):
    """A rule in its canonical form, built by hand: what the parser must arrive at."""
    criterion = draw(st.sampled_from(CRITERIA))
    percent = draw(st.decimals(0, 100, places=6) | st.integers(0, 100).map(Decimal))
    if criterion in BY_NORM:
        measure = "norm"
    else:
        choice = ("scalars", "norm") if criterion == "dare" else ("scalars", "changed", "norm")
        measure = draw(st.sampled_from(choice))
    assume(criterion != "dare" or percent < 100)
    if criterion == "spectral" and draw(st.booleans()):
        percent, measure = None, "scalars"
    return Restored(
        criterion,
        percent,
        draw(st.sampled_from(["fp32", "bf16"])) if criterion in ROUNDED else "fp32",
        measure,
        criterion not in BY_TENSOR and draw(st.booleans()),
        draw(regions),
        draw(st.integers(1, 999_999)) if criterion in DRAWN else 1,
    )


# --- names and file names ------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(rules())
def test_name_and_slug_are_read_back(rule):
    assert parse_rule(rule.text) == rule
    assert parse_slug(rule.slug.removeprefix(START)) == rule
    for text in (rule.name, rule.slug):
        again = parse_variant(text)
        assert again == rule
        assert (again.name, again.slug) == (rule.name, rule.slug)


@settings(max_examples=100, deadline=None)
@given(rules())
def test_a_slug_can_be_a_file_name_anywhere(rule):
    assert re.fullmatch(r"tuned\+restore-[A-Za-z0-9.+=%_~-]+", rule.slug)


@settings(max_examples=100, deadline=None)
@given(rules(), rules())
def test_one_name_one_slug_one_digest_per_rule(one, other):
    same = one == other
    assert (one.name == other.name) is same
    assert (one.slug == other.slug) is same
    assert (one.digest("b", "t") == other.digest("b", "t")) is same


@settings(max_examples=200, deadline=None)
@given(rules(), st.randoms(use_true_random=False), st.lists(st.integers(0, 40), max_size=4))
def test_neither_spaces_nor_the_order_of_options_count(rule, random, places):
    """But for a regular expression, which is the last but for a draw."""
    parts = rule.text.split(",match=")
    words = parts[0].split(",")
    first = 1 if rule.percent is None else 2
    options = words[first:]
    random.shuffle(options)
    text = ",match=".join([",".join([*words[:first], *options]), *parts[1:]])
    for place in places:
        text = text[:place] + " " + text[place:]
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    ("text", "canonical", "slug"),
    [
        ("relative,5%", "relative,5%", "relative-5pct"),
        ("relative, 5.0 %, fp32", "relative,5%", "relative-5pct"),
        ("relative,5%scalars,blocks,draw=1", "relative,5%", "relative-5pct"),
        (
            "lowest-relative,12.50%changed,per-tensor,bf16",
            "lowest-relative,12.5%changed,bf16,per-tensor",
            "lowest-relative-12.5pctchanged-bf16-per-tensor",
        ),
        ("absolute,100%norm,attention", "absolute,100%norm,attention",
         "absolute-100pctnorm-attention"),
        ("random,1%,draw=2,mlp", "random,1%,mlp,draw=2", "random-1pct-mlp-draw=2"),
        ("random,1%,draw=002", "random,1%,draw=2", "random-1pct-draw=2"),
        ("ties,80%,layers=00-03+7", "ties,80%,layers=0-3+7", "ties-80pct-layers=0-3+7"),
        ("interpolation,20%", "interpolation,20%norm", "interpolation-20pctnorm"),
        ("interpolation,20%norm,per-tensor", "interpolation,20%norm", "interpolation-20pctnorm"),
        ("noise,5%,draw=3", "noise,5%norm,draw=3", "noise-5pctnorm-draw=3"),
        ("fapm,90%,per-tensor", "fapm,90%", "fapm-90pct"),
        ("dare,50%,per-tensor", "dare,50%", "dare-50pct"),
        ("spectral", "spectral", "spectral"),
        ("spectral,per-tensor,all", "spectral,all", "spectral-all"),
        ("spectral,30%", "spectral,30%norm", "spectral-30pctnorm"),
        ("relative,5%,match=(q|k)_proj", "relative,5%,match=(q|k)_proj",
         "relative-5pct-match=%28q%7Ck%29_proj"),
        ("random,5%,match=a-b,c,draw=2", "random,5%,match=a-b,c,draw=2",
         "random-5pct-match=a%2Db%2Cc-draw=2"),
    ],
)  # fmt: skip
def test_canonical_forms(text, canonical, slug):
    rule = parse_rule(text)
    assert (rule.text, rule.slug) == (canonical, START + slug)
    assert parse_rule(canonical) == rule


def test_a_regular_expression_keeps_its_commas():
    assert parse_rule("relative,5%,match=a{1,3},bf16").region == "match=a{1,3},bf16"
    assert parse_rule("relative,5%,bf16,match=a{1,3}").arithmetic == "bf16"


def test_which_rules_are_the_papers():
    papers = ("relative,5%", "relative,20%,bf16")
    others = (
        "relative,5%norm", "relative,5%changed", "relative,5%,per-tensor", "relative,5%,all",
        "absolute,5%", "spectral",
    )  # fmt: skip
    assert [parse_rule(text).is_papers for text in (*papers, *others)] == [True] * 2 + [False] * 6


@pytest.mark.parametrize(
    "text", ["", "relative", "relative-5", "magnitude-5pct", "relative-5pctl1", "relative-5pct-x",
             "relative-5pct-per-tensor-bf16", "relative-5pct-match=a-b", "../relative-5pct"]
)  # fmt: skip
def test_what_is_no_slug(text):
    if text == "relative":  # a file name of that form, of which the rule itself is wrong
        with pytest.raises(SftbenchError, match="relative needs a size"):
            parse_slug(text)
    else:
        assert parse_slug(text) is None


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no rule"),
        (" , ", "there is no rule"),
        ("relative,5%,", "'relative,5%,' has a comma too many"),
        ("relative,,5%", "'relative,,5%' has a comma too many"),
        ("relative,5%match=a", "'relative,5%match=a' lacks a comma before match="),
        ("magnitude,5%", f"there is no restore criterion 'magnitude'; {KNOWN_CRITERIA}"),
        ("5%", f"there is no restore criterion '5%'; {KNOWN_CRITERIA}"),
        ("relative", "relative needs a size, such as relative,5%"),
        ("relative,bf16", "relative needs a size, such as relative,5%"),
        ("interpolation", "interpolation needs a size, such as interpolation,5%"),
        ("random,5%,bf16", "random is computed in fp32 only"),
        ("fapm,5%,bf16", "fapm is computed in fp32 only"),
        ("spectral,bf16", "spectral is computed in fp32 only"),
        ("relative,5%,draw=2", "relative has no random draws"),
        ("spectral,draw=2", "spectral has no random draws"),
        ("relative,5%,match=a,draw=2", "relative has no random draws"),
        ("interpolation,5%changed",
         "interpolation moves all scalars; its size is a share of the norm"),
        ("spectral,5%changed", "spectral moves all scalars; its size is a share of the norm"),
        ("noise,5%changed", "noise moves all scalars; its size is a share of the norm"),
        ("dare,5%changed", "dare drops scalars whether they changed or not"),
        ("dare,100%", "dare keeps part of the update, and enlarges it: less than 100 %"),
        ("random,5%,draw=0", "'draw=0' is no draw"),
        ("random,5%,draw=", "'draw=' is no draw"),
        ("random,5%,draw=-1", "'draw=-1' is no draw"),
        ("random,5%,draw=٥", "'draw=٥' is no draw"),
        ("random,5%,draw=1000000", "'draw=1000000' is no draw"),
        ("relative,5%,fp8", f"there is no region or option 'fp8'; {KNOWN_REGIONS}"),
        ("relative,5", f"there is no region or option '5'; {KNOWN_REGIONS}"),
        ("relative,5%,layers=",
         f"there is no region or option 'layers='; {KNOWN_REGIONS}"),
        ("relative,5%,layers=1-",
         f"there is no region or option 'layers=1-'; {KNOWN_REGIONS}"),
        ("relative,5%,layers=5-3", "5-3 is no range of layers"),
        ("relative,5%,match=", "match= lacks a regular expression"),
        ("random,5%,match=,draw=2", "match= lacks a regular expression"),
        ("relative,5%,match=(", "'match=(' is no regular expression: missing ), unterminated "
         "subpattern at position 0"),
        ("relative,5%,match=a{9999999999999999999}",
         "'match=a{9999999999999999999}' is no regular expression: the repetition number is too "
         "large"),
        ("relative,101%", "'101' is no percentage"),
        ("relative,%", "'' is no percentage"),
        ("relative,5%sum", "there is no measure of size 'sum'; known: scalars, changed, norm"),
        ("relative,5%,bf16,fp32", "a rule has one arithmetic, not both bf16 and fp32"),
        ("relative,5%,attention,mlp", "a rule has one region, not both attention and mlp"),
        ("relative,5%,mlp,match=x", "a rule has one region, not both mlp and match=x"),
        ("random,5%,draw=2,draw=3", "a rule has one draw, not both draw=2 and draw=3"),
        ("random,5%,match=a,draw=2,draw=1", "a rule has one draw, not both draw=2 and draw=1"),
    ],
)  # fmt: skip
def test_what_is_refused(text, message):
    with pytest.raises(SftbenchError) as error:
        parse_rule(text)
    assert error.value.what == message


@pytest.mark.parametrize("text", ["magnitude,5%", "relative", "relative,5%,fp8", "relative,5%sum"])
def test_what_is_refused_is_told_the_grammar(text):
    with pytest.raises(SftbenchError) as error:
        parse_rule(text)
    assert error.value.remedy in (RULE_FORM, RULE_GRAMMAR)
    assert all(criterion in RULE_GRAMMAR for criterion in CRITERIA)


def test_a_regular_expression_that_would_not_be_read_back_is_refused():
    with pytest.raises(SftbenchError, match="cannot end in a draw"):
        rule_of("random", Decimal(5), "scalars", ["match=a,draw=2"])
    assert rule_of("random", Decimal(5), "scalars", ["match= a b"]).region == "match=ab"


@settings(max_examples=300, deadline=None)
@given(st.text(ODD + " relativ5,mhlyps=-1", max_size=25))
def test_any_text_is_a_rule_or_refused_in_words(text):
    try:
        rule = parse_rule(text)
    except SftbenchError:
        return
    assert parse_rule(rule.text) == rule
    assert parse_slug(rule.slug.removeprefix(START)) == rule


# --- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5", ("5", "scalars")),
        ("5%", ("5", "scalars")),
        (" 12.50 % changed ", ("12.5", "changed")),
        ("20%norm", ("20", "norm")),
        ("0%scalars", ("0", "scalars")),
        ("100", ("100", "scalars")),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == (Decimal(size[0]), size[1])


def test_lists_of_sizes():
    assert parse_sizes("1, 5%,20%norm,5%changed") == (
        (Decimal(1), "scalars"),
        (Decimal(5), "scalars"),
        (Decimal(20), "norm"),
        (Decimal(5), "changed"),
    )
    with pytest.raises(SftbenchError, match=r"5 % is listed twice"):
        parse_sizes("5,1,5.0%")
    with pytest.raises(SftbenchError, match=r"5 % norm is listed twice"):
        parse_sizes("5,5%norm,5.0%norm")
    with pytest.raises(SftbenchError, match="there is no percentage"):
        parse_sizes(" , ")


@pytest.mark.parametrize(
    ("text", "percent"), [("5", "5"), ("5.0", "5"), ("0.5", "0.5"), (" 100 % ", "100"), ("0", "0")]
)
def test_percentages_are_exact(text, percent):
    assert parse_percent(text) == Decimal(percent)


@pytest.mark.parametrize("text", ["", "-1", "100.5", "1e1", "nan", "5%%", ".5", "1.0000001", "٥"])
def test_what_is_no_percentage(text):
    with pytest.raises(SftbenchError, match=re.escape(f"{text!r} is no percentage")):
        parse_percent(text)


def test_regions_by_name():
    assert [parse_region(region) for region in REGIONS] == list(REGIONS)
    assert parse_region("layers=007+1-02") == "layers=7+1-2"
    assert parse_region("match=^model\\.") == "match=^model\\."
