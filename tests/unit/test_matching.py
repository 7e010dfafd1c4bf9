"""Answer matching: traps, and properties that hold for any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftbench.common.errors import SftbenchError
from sftbench.facts.matching import (
    AnswerMatcher,
    answer_in_question,
    is_right,
    is_run_on,
    normalise,
)

pytestmark = pytest.mark.unit

AMERICA = ("United States", "United States of America", "USA", "US", "U.S.")
ANSWERS = st.sampled_from(
    [
        ("Niger",),
        AMERICA,
        ("São Tomé",),
        ("東京",),
        ("A",),
        ("Guinea-Bissau",),
        ("Washington, D.C.", "Washington"),
        ("Ελλάδα",),
        ("หิน",),
        ("Vitamin A", "U.S.A."),
        ("USA",),
        ("Washington DC", "J. K. Rowling"),
    ]
)
# Pieces that make matches, near matches and awkward continuations likely.
PIECES = st.sampled_from(
    [
        *("Niger", "ia", "US", "U.S.", "A", "the ", "São", " Tome", "東", "京", "Guinea", "Bissau"),
        *("Vitamin", "vitamin ", "USA", "U.S.A", "D.C.", "DC", "d c", "J.", "K", "Rowling", "a "),
        *("Washington", "United ", "States", "Ελλάδ", "α", "หิน", "İ", "ß", "ᄀ", "\u1160", "st"),
        *(
            "-",
            " ",
            ".",
            "&",
            "_",
            "'s",
            "=",
            "\n",
            "\u0301",
            "\u0338",
            "\u200d",
            "\u00ad",
            "\ufffd",
        ),
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=8).map("".join), st.text(max_size=30))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The  Netherlands ", "netherlands"),
        ("São Tomé", "sao tome"),
        ("Sa\u0303o Tome\u0301", "sao tome"),
        ("Guinea-Bissau", "guinea bissau"),
        ("Washington, D.C.", "washington d c"),
        ("Côte d’Ivoire", "cote d ivoire"),
        ("Łódź", "lodz"),
        ("Straße", "strasse"),
        ("ＦＵＬＬ width", "full width"),
        ("St. Louis", "saint louis"),
        ("Trinidad & Tobago", "trinidad and tobago"),
        ("Paris\ufffd", "paris"),
        ("Par\u00adis", "paris"),
        ("が", "が"),
        ("The", ""),
        ("", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@given(TEXTS)
def test_normalise_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(st.characters(max_codepoint=127)), st.sampled_from(["é", "東", "\u0301"]))
def test_the_quick_way_for_ascii_gives_what_the_long_way_gives(text: str, other: str) -> None:
    assert normalise(f"{text} {other}") == f"{normalise(text)} {normalise(other)}".strip()


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (AMERICA, "It is in the United States of America."),
        (AMERICA, "the U.S. state of Ohio"),
        (AMERICA, "somewhere in the US"),
        (("United States of America", "United States"), "the United States"),
        (("Niger",), "Niger"),
        (("Niger",), "Niger's capital"),
        (("Niger",), "(NIGER)"),
        (("नाम",), "मेरा नाम है"),
        (("São Tomé",), "sao tome"),
        (("Sao Tome",), "São Tomé and Príncipe"),
        (("Guinea-Bissau",), "Guinea Bissau"),
        (("Washington, D.C.",), "Washington D.C. is"),
        (("東京",), "私は東京に住んでいます"),
        (("St. John's",), "Saint John’s"),
        (("Gambia",), "The Gambia"),
        (("Paris",), "Paris\ufffd"),
        (("A",), "vitamin A is"),
        (("Vitamin A",), "It is vitamin A."),
        (("franc",), "a franc"),
        (("USA",), "U.S.A."),
        (("U.S.A.",), "the USA"),
        (("U. S. A.",), "the USA"),
        (("U.S.",), "US"),
        (("US dollar",), "the U.S. dollar"),
        (("Washington, D.C.",), "Washington DC"),
        (("Washington DC",), "Washington, D.C."),
        (("J.K. Rowling",), "JK Rowling"),
        (("JK Rowling",), "J. K. Rowling"),
    ],
)
def test_words_contains(answers: tuple[str, ...], text: str) -> None:
    assert AnswerMatcher(answers).contains(text)


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (("Niger",), "Nigeria"),
        (("Niger",), "Nigerien"),
        (("नाम",), "नामी"),  # a vowel sign makes another word
        (("Oman",), "Romania"),
        (("Kansas",), "Arkansas"),
        (("United States of America",), "the United States"),
        (("United States",), "the United Stateside"),
        (AMERICA, "let us see, tell us"),
        (AMERICA, "USB"),
        (("Guinea-Bissau",), "Guinea"),
        (("A",), "a banana"),
        (("が",), "か"),
        (("Paris",), ""),
        (("Vitamin A",), "Vitamin C"),
        (("Vitamin A",), "a vitamin"),
        (("A minor",), "D minor"),
        (("U.S.A.",), "USAF"),
        (("S.H.E.",), "she is"),
        (("3.5",), "35"),
    ],
)
def test_words_contains_not(answers: tuple[str, ...], text: str) -> None:
    assert not AnswerMatcher(answers).contains(text)


def test_strict_paper_is_a_plain_substring() -> None:
    matcher = AnswerMatcher(("Niger",), "strict-paper")
    assert matcher.contains("Nigeria")
    assert matcher.settled("Nigeria")
    assert not matcher.contains("niger")


@pytest.mark.parametrize(
    ("text", "settled"),
    [
        ("Niger", False),
        ("Niger\ufffd", False),
        ("Niger ", True),
        ("Niger,", True),
        ("in Niger and", True),
        ("in Nigeria and", False),
        ("", False),
    ],
)
def test_settled(text: str, settled: bool) -> None:
    assert AnswerMatcher(("Niger",)).settled(text) is settled


def test_settled_waits_for_an_abbreviation_to_end() -> None:
    matcher = AnswerMatcher(("US",))
    assert matcher.contains("US")
    assert not matcher.settled("US")  # "USB" may come
    assert matcher.settled("the US.")


@given(ANSWERS, TEXTS, TEXTS, st.sampled_from(["words", "strict-paper"]))
def test_settled_is_monotone(answers: tuple[str, ...], text: str, rest: str, how: str) -> None:
    matcher = AnswerMatcher(answers, "words" if how == "words" else "strict-paper")
    if matcher.settled(text):
        assert matcher.contains(text)
        assert matcher.contains(text + rest)
        assert matcher.settled(text + rest)


@given(ANSWERS, TEXTS)
def test_a_contained_answer_settles_when_a_sentence_ends(
    answers: tuple[str, ...], text: str
) -> None:
    matcher = AnswerMatcher(answers)
    if matcher.contains(text):
        assert matcher.settled(text + " . ")


@pytest.mark.parametrize("answers", [(), ("",), ("Paris", " "), ("...",)])
def test_an_answer_needs_a_letter(answers: tuple[str, ...]) -> None:
    with pytest.raises(SftbenchError, match="letter or digit"):
        AnswerMatcher(answers)


def test_answer_in_question() -> None:
    assert answer_in_question("In which country is Mexico City?", ("Mexico",))
    assert not answer_in_question("What is the capital of Nigeria?", ("Niger",))
    assert not answer_in_question("Can you tell us its country?", ("United States", "US"))


def test_run_on_counts_words_beyond_the_longest_alias() -> None:
    eight = "one two three four five six seven eight"
    assert not is_run_on(f"Paris {eight}", ("Paris",))
    assert is_run_on(f"Paris {eight} nine", ("Paris",))
    assert not is_run_on(f"Paris {eight} nine", ("Paris", "Paris (France)"))
    assert not is_run_on(f"\n\nParis\n{eight} nine ten", ("Paris",))


@pytest.mark.parametrize(
    ("text", "answer"),
    [("Vitamin C", "Vitamin A"), ("Hepatitis B", "Hepatitis A"), ("Serie B", "Serie A")],
)
def test_a_letter_that_looks_like_an_article_counts(text: str, answer: str) -> None:
    assert not is_right(text, [answer])
    assert is_right(answer, [answer])


@pytest.mark.parametrize(
    ("text", "how", "right"),
    [
        ("Paris", "words", True),
        ("\n It is Paris.\nLondon", "words", True),
        ("London\nParis", "words", False),
        ("London, Rome, Oslo, Bonn, Kyiv, Lima, Bern, Minsk, Sofia, Paris", "words", False),
        ("", "words", False),
        (" \n ", "words", False),
        ("", "strict-paper", False),
        ("London\nParis", "strict-paper", True),
        ("Parisian", "strict-paper", True),
        ("paris", "strict-paper", False),
    ],
)
def test_is_right(text: str, how: str, right: bool) -> None:
    assert is_right(text, ("Paris",), "words" if how == "words" else "strict-paper") is right
