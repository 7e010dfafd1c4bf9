"""Answer matching: the one place that says whether a text holds an answer, and is right."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

from sftbench.common.errors import SftbenchError

How = Literal["words", "strict-paper"]
"""Two ways to look for an answer: normalised words, or the paper's plain substring."""

RUN_ON_WORDS = 8
"""A first line with more words than this beyond the longest alias is a run-on, not an answer."""

_ARTICLES = frozenset(("the", "a", "an"))
_WRITTEN_OUT = {"st": "saint"}
# Letters that Unicode does not decompose, although people leave their stroke or ligature out.
_FOLDED = str.maketrans(
    {
        "ø": "o",
        "đ": "d",
        "ł": "l",
        "ħ": "h",
        "ŧ": "t",
        "ð": "d",
        "þ": "th",
        "ı": "i",
        "æ": "ae",
        "œ": "oe",
        "&": " and ",
    }
)
_ASCII = str.maketrans(
    {chr(code): " " for code in range(128) if not chr(code).isalnum()} | {"&": " and "}
)
# Marks of European scripts only: a kana's voicing or an Indic vowel sign changes the word.
_DIACRITIC = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
# Scripts that write no space between words, so that a word boundary cannot be asked for.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_UNSPACED_CHARACTER = re.compile(f"[{_UNSPACED}]")
_INITIALS = re.compile(r"(?<![\w.])[A-Z](?:\. ?[A-Z])+(?!\w)\.?")
_CAPITALS = re.compile(r"(?<!\w)[A-Z]{2,5}(?!\w)")
_SEPARATORS = " \t\n!\"#%'()*+,-./:;?[]_{|}"


def normalise(text: str) -> str:
    """Return a name as it is compared with other names: lower-case words, one space between.

    NFKC and casefold; European diacritics folded ("São Tomé" is "sao tome"); punctuation and
    symbols (U+FFFD, what a half-decoded character shows as, among them) become spaces; invisible
    format characters go; "&" is "and", "St." is "saint"; the articles the, a, an are dropped.
    Idempotent. An answer is looked for with its "a" and "an", see `AnswerMatcher`.
    """
    return " ".join(word for word in _words(text) if word not in _ARTICLES)


def _words(text: str) -> list[str]:
    """Return the words of a text as `normalise` writes them, articles and all."""
    folded = text.lower().translate(_ASCII) if text.isascii() else _fold(text)
    return [_WRITTEN_OUT.get(word, word) for word in folded.split()]


def _searched(text: str) -> str:
    """Return a text or alias as a matcher compares it: normalised, but "a" and "an" stay.

    "A" may be a letter with a meaning: "Vitamin C" does not hold "Vitamin A".
    """
    return " ".join(word for word in _words(text) if word != "the")


def _fold(text: str) -> str:
    """Return casefolded letters, marks and digits, with spaces for everything else."""
    while True:  # folding can bring together characters that compose: twice is nearly always all
        decomposed = unicodedata.normalize("NFKD", text).casefold()
        bare = _DIACRITIC.sub("", unicodedata.normalize("NFKD", decomposed)).translate(_FOLDED)
        folded = unicodedata.normalize("NFC", "".join(map(_letter_or_space, bare)))
        if folded == text:
            return folded
        text = folded


@lru_cache(maxsize=4096)
def _letter_or_space(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    return character if category[0] in "LNM" else " "


class AnswerMatcher:
    """Looks for any of a fact's answers in a text; made once per fact, asked many times.

    Args:
        answers: the canonical answer and its aliases.
        how: "words": an alias stands in the normalised text at word boundaries. "strict-paper":
            an alias is a plain, case-sensitive substring of the text.

    An alias of one or two capitals ("US") or one that is an article ("A") is looked for as it is
    written, with or without dots: else "US" would be found in "tell us". In longer aliases
    initials count with and without dots too: "USA" and "U.S.A.", "Washington, D.C." and
    "Washington DC".

    Raises:
        SftbenchError: there is no answer, or one without a letter or digit.
    """

    def __init__(self, answers: Sequence[str], how: How = "words") -> None:
        """Prepare the answers once, as they are looked for many times."""
        if not answers or any(not _fold(answer).strip() for answer in answers):
            raise SftbenchError(
                f"an answer needs at least one letter or digit; these are {list(answers)}",
                remedy="Remove the empty answer from the fact table.",
            )
        self.how = how
        self._plain = tuple(answers)
        as_written = {
            _joined(answer).replace(".", "") for answer in answers if _is_abbreviation(answer)
        }
        words = {
            words for answer in answers if not is_cased(answer) for words in _spellings(answer)
        }
        self._needles = tuple(sorted(map(_needle, words)))
        self._as_written = _any_of(sorted(as_written))

    def contains(self, text: str) -> bool:
        """Return whether an answer stands in the text."""
        if self.how == "strict-paper":
            return any(answer in text for answer in self._plain)
        padded = f" {_searched(text)} "
        if any(needle in padded for needle in self._needles):
            return True
        return self._as_written is not None and self._as_written.search(text) is not None

    def settled(self, text: str) -> bool:
        """Return whether an answer stands in the text whatever may still follow.

        "Niger" at the very end is not settled, as "ia" may come; "Niger," is. Only what precedes
        the last ASCII space or punctuation mark counts: no later character can change that.
        """
        if self.how == "strict-paper":
            return self.contains(text)
        end = max(map(text.rfind, _SEPARATORS)) + 1
        return end > 0 and self.contains(text[:end])


def without_diacritics(text: str) -> str:
    """Return a text with its European diacritics left out: "bolívar" is "bolivar"."""
    return unicodedata.normalize("NFC", _DIACRITIC.sub("", unicodedata.normalize("NFKD", text)))


def without_article(answer: str) -> str:
    """Return an answer without "the", "a" or "an" in front, if more follows."""
    first, _, others = answer.partition(" ")
    return others.strip() if first.lower() in _ARTICLES and normalise(others) else answer


def ends_with_a_word(answers: Sequence[str]) -> bool:
    """Return whether every answer ends in a script that writes spaces between words."""
    return not any(_UNSPACED_CHARACTER.match(answer.strip()[-1:]) for answer in answers)


def is_cased(answer: str) -> bool:
    """Return whether an alias is told from a common word by its capitals alone."""
    bare = answer.replace(".", "").strip()
    short = len(bare) <= 2 and bare.isascii() and bare.isupper()
    return short or not normalise(answer)


def _is_abbreviation(answer: str) -> bool:
    """Return whether an alias is looked for as written: "US", "A", and "U.S.A." for "USA"."""
    return is_cased(answer) or _INITIALS.fullmatch(answer.strip()) is not None


def _joined(answer: str) -> str:
    """Return the alias with its initials joined: "Washington, DC" for "Washington, D.C."."""
    return _INITIALS.sub(lambda found: re.sub("[. ]", "", found[0]) + " ", answer).strip()


def _spellings(answer: str) -> set[str]:
    """Return the alias as it is searched, with its capitals apart ("u s a"), its initials joined.

    On the alias's side only: joining letters in the text would change what was already read.
    Initials that are all of the alias are not joined in lower case: "S.H.E." is not "she".
    """
    apart = _CAPITALS.sub(lambda found: " ".join(found[0]), answer)
    spellings = {_searched(answer), _searched(apart)}
    if not _is_abbreviation(answer):
        spellings.add(_searched(_joined(answer)))
    return spellings


def _needle(words: str) -> str:
    """Return normalised words between spaces, but for an edge whose script writes none."""
    start = "" if _UNSPACED_CHARACTER.match(words[:1]) else " "
    end = "" if _UNSPACED_CHARACTER.match(words[-1:]) else " "
    return f"{start}{words}{end}"


def _any_of(abbreviations: Sequence[str]) -> re.Pattern[str] | None:
    """Return a pattern for abbreviations as they are written, with or without dots."""
    if not abbreviations:
        return None
    spelled = (r"\.?".join(map(re.escape, letters)) for letters in abbreviations)
    return re.compile(rf"(?<!\w)(?:{'|'.join(spelled)})(?!\w)")


def answer_in_question(question: str, answers: Sequence[str]) -> bool:
    """Return whether an answer stands in the question, so that an echo would score."""
    return AnswerMatcher(answers).contains(question)


def is_run_on(text: str, answers: Sequence[str]) -> bool:
    """Return whether the first line goes on for more than 8 words beyond the longest alias.

    A text that lists everything holds the answer by luck. Decided from the text alone, so that
    every engine decides alike.
    """
    longest = max((len(normalise(answer).split()) for answer in answers), default=0)
    return len(normalise(first_line(text)).split()) > longest + RUN_ON_WORDS


def is_right(text: str, answers: Sequence[str], how: How = "words") -> bool:
    """Return whether a generated text answers the question.

    "words": its first line that is not empty holds an answer and is not a run-on. "strict-paper":
    an answer is a substring anywhere in the text. An empty text is wrong.
    """
    matcher = AnswerMatcher(answers, how)
    if how == "strict-paper":
        return matcher.contains(text)
    line = first_line(text)
    return matcher.contains(line) and not is_run_on(line, answers)


def first_line(text: str) -> str:
    """Return the first line that holds more than white space ("" where there is none)."""
    return next((line for line in text.splitlines() if line.strip()), "")
