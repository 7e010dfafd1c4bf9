"""The grammar of variants: names, slugs, digests; that of the rules is in `test_rules.py`."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftbench.checkpoints.rules import CRITERIA, REGIONS, RULE_FORM, RULE_GRAMMAR, Restored
from sftbench.checkpoints.variants import BASE, TUNED, Again, Noise, parse_variant
from sftbench.common.errors import SftbenchError

pytestmark = pytest.mark.unit

percents = st.decimals(0, 100, places=6) | st.integers(0, 100).map(Decimal)
restored = st.builds(Restored, st.just("relative"), percents, st.sampled_from(["fp32", "bf16"]))
numbers = st.integers(1, 999_999)
numbered = st.builds(Noise, numbers) | st.builds(Again, numbers)
variants = st.sampled_from([BASE, TUNED]) | restored | numbered


@given(variants)
def test_name_and_slug_are_read_back(variant):
    assert parse_variant(variant.name) == variant
    assert parse_variant(variant.slug) == variant
    assert parse_variant(variant.name).name == variant.name
    assert parse_variant(variant.slug).slug == variant.slug
    assert re.fullmatch(r"[a-z0-9.+-]+", variant.slug)


@given(variants, st.lists(st.integers(0, 40), max_size=4))
def test_spaces_do_not_count(variant, places):
    text = variant.name
    for place in places:
        text = text[:place] + " " + text[place:]
    assert parse_variant(text) == variant


@given(variants, variants)
def test_one_name_one_slug_one_digest_per_variant(one, other):
    same = one == other
    assert (one.name == other.name) is same
    assert (one.slug == other.slug) is same
    assert (one.digest("b", "t") == other.digest("b", "t")) is same


@pytest.mark.parametrize(
    ("text", "name", "slug"),
    [
        ("base", "base", "base"),
        (" tuned ", "tuned", "tuned"),
        (
            "tuned+restore(relative, 5%)",
            "tuned+restore(relative,5%)",
            "tuned+restore-relative-5pct",
        ),
        (
            "tuned + restore ( relative , 5.0 % , fp32 )",
            "tuned+restore(relative,5%)",
            "tuned+restore-relative-5pct",
        ),
        (
            "tuned+restore(relative,12.50%,bf16)",
            "tuned+restore(relative,12.5%,bf16)",
            "tuned+restore-relative-12.5pct-bf16",
        ),
        (
            "tuned+restore-relative-100pct",
            "tuned+restore(relative,100%)",
            "tuned+restore-relative-100pct",
        ),
        (
            "tuned+restore(absolute,20%norm,layers=0-3)",
            "tuned+restore(absolute,20%norm,layers=0-3)",
            "tuned+restore-absolute-20pctnorm-layers=0-3",
        ),
        (
            "tuned+restore(random,5%,draw=2,match=(q|k)_proj)",
            "tuned+restore(random,5%,match=(q|k)_proj,draw=2)",
            "tuned+restore-random-5pct-match=%28q%7Ck%29_proj-draw=2",
        ),
        ("tuned+restore(spectral)", "tuned+restore(spectral)", "tuned+restore-spectral"),
        ("base+noise(1)", "base+noise(1)", "base+noise-1"),
        ("base + noise ( 012 )", "base+noise(12)", "base+noise-12"),
        ("base+noise-3", "base+noise(3)", "base+noise-3"),
        ("base+again(7)", "base+again(7)", "base+again-7"),
        ("base+again-7", "base+again(7)", "base+again-7"),
    ],
)
def test_canonical_forms(text, name, slug):
    variant = parse_variant(text)
    assert (variant.name, variant.slug) == (name, slug)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Base",
        "tuned+",
        "restore",
        "../tuned",
        "tuned+restore",
        "tuned+restore(relative,5%",
        "tuned+restore-",
        "base+restore(relative,5%)",
        "tuned+restore-relative-pct",
        "tuned+restore-magnitude-5pct",
        "noise(1)",
        "tuned+noise(1)",
        "base+noise",
        "base+noise()",
        "base+noise(0)",
        "base+noise(-1)",
        "base+noise(1.5)",
        "base+noise(one)",
        "base+noise(1",
        "base+noise-1)",
        "base+noise--1",
        "base+noise(1)+again(2)",
        "base+noise(1234567)",
        "base+noise(٥)",
        "base+again(0)",
        "base+again-0",
        "base+again(7,8)",
        "base+once(7)",
    ],
)
def test_what_is_no_variant_is_told_the_grammar(text):
    with pytest.raises(SftbenchError, match=re.escape("tuned+restore(relative,5%)")):
        parse_variant(text)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", "there is no rule"),
        ("relative", "relative needs a size, such as relative,5%"),
        ("relative,5", f"there is no region or option '5'; known: {', '.join(REGIONS)}"),
        ("relative,5%,bf16,x", f"there is no region or option 'x'; known: {', '.join(REGIONS)}"),
        (
            "magnitude,5%",
            f"there is no restore criterion 'magnitude'; known: {', '.join(CRITERIA)}",
        ),
    ],
)
def test_a_wrong_rule_is_told_the_grammar_of_rules(rule, message):
    with pytest.raises(SftbenchError) as error:
        parse_variant(f"tuned+restore({rule})")
    # A message that lists what is known is not followed by the same list.
    remedy = RULE_FORM if "known:" in message else RULE_GRAMMAR
    assert (error.value.what, error.value.remedy) == (message, remedy)


def test_digests_depend_on_what_the_weights_depend_on():
    rule = parse_variant("tuned+restore(relative,5%)")
    assert BASE.digest("b", "t") == BASE.digest("b", "other")
    assert TUNED.digest("b", "t") == TUNED.digest("other", "t")
    assert len({rule.digest("b", "t"), rule.digest("c", "t"), rule.digest("b", "u")}) == 3


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("tuned+restore(relative,5%)", "8320a7faad3a4e1acf4ec44090ea6cd4"),
        ("tuned+restore(relative,12.5%,bf16)", "43148ef91551375a440a9c00966d7a9d"),
    ],
)
def test_results_of_earlier_versions_are_found_again(name, digest):
    assert parse_variant(name).digest("b", "t") == digest


def test_noise_depends_on_both_models_and_the_draw():
    noise = Noise(1)
    others = [("b", "t"), ("c", "t"), ("b", "u")]
    assert len({*(noise.digest(*pair) for pair in others), Noise(2).digest("b", "t")}) == 4


def test_the_base_asked_again_depends_on_the_base_and_the_batch():
    again = Again(7)
    assert again.digest("b", "t") == again.digest("b", "other")
    digests = {again.digest("b", "t"), again.digest("c", "t"), Again(8).digest("b", "t")}
    assert len({*digests, BASE.digest("b", "t"), Noise(7).digest("b", "t")}) == 5
