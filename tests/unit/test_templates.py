"""Template files: the bundled one keeps every rule, and each broken rule is named."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from sftbench.common.errors import SftbenchError
from sftbench.facts.templates import bundled_templates, load_templates, word_trigrams

pytestmark = pytest.mark.unit

BUNDLED = {
    name: load_templates(bundled_templates(name)) for name in ("geography", "entityquestions")
}
WORDS = [
    "ash",
    "birch",
    "cedar",
    "elm",
    "fir",
    "hazel",
    "larch",
    "lime",
    "maple",
    "oak",
    "pine",
    "poplar",
    "rowan",
    "spruce",
    "willow",
    "yew",
]


def entry() -> dict[str, Any]:
    """Return a relation that keeps every rule: 21 lines that share no trigram."""
    cloze = [f"{one} {{subject}} {other} in" for one, other in list(combinations(WORDS, 2))[:21]]
    return {"question": "Where is {subject}?", "cloze": cloze}


def write(folder: Path, content: object) -> Path:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("source", "relation"),
    [(name, relation) for name, bundled in BUNDLED.items() for relation in bundled.relations],
)
def test_bundled_templates_are_21_distinct_paraphrases(source: str, relation: str) -> None:
    cloze = BUNDLED[source].cloze[relation]
    assert len(cloze) == len({line.casefold() for line in cloze}) == 21
    for line in cloze:
        assert line.count("{subject}") == 1
        assert line == line.strip()
        assert not line.endswith((".", "?", "!"))
        assert "  " not in line
    shared = [len(word_trigrams(one) & word_trigrams(two)) for one, two in combinations(cloze, 2)]
    assert max(shared) <= 3


def test_bundled_questions_ask_about_the_subject() -> None:
    asked = BUNDLED["geography"].relations["country_capital"]
    assert asked.ask("the Netherlands") == "What is the capital of the Netherlands?"


@pytest.mark.parametrize("subject", ["the Ombra", "O'Brien's", "?", "{subject}"])
def test_the_subject_is_what_the_form_leaves(subject: str) -> None:
    for bundled in BUNDLED.values():
        for asked in bundled.relations.values():
            assert asked.subject_of(asked.ask(subject)) == subject


@pytest.mark.parametrize(
    "question", ["Who is Bly child?", "Who is  's child?", "Who is 's child?", "Bly's child?", ""]
)
def test_a_question_of_another_form_has_no_subject(question: str) -> None:
    assert BUNDLED["entityquestions"].relations["P40"].subject_of(question) is None


def test_word_trigrams_ignore_case_and_punctuation_and_count_the_subject() -> None:
    assert word_trigrams("City: {subject}. Country:") == {("city", "{subject}", "country")}
    assert word_trigrams("Two words") == set()


def test_a_file_that_keeps_the_rules_is_read_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"zeta": entry(), "alpha": entry()}, sort_keys=False))
    assert list(load_templates(path).relations) == ["zeta", "alpha"]


def first_line(line: str) -> Callable[[dict[str, Any]], None]:
    def change(relation: dict[str, Any]) -> None:
        relation["cloze"][0] = line

    return change


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda relation: relation.pop("question"), "needs `question` and `cloze`"),
        (lambda relation: relation.update(extra=1), "nothing else"),
        (lambda relation: relation.update(question="Where?"), "the question must hold"),
        (lambda relation: relation.update(question="Say {subject}"), "question mark"),
        (lambda relation: relation.update(cloze="{subject} is in"), "list of lines"),
        (lambda relation: relation["cloze"].pop(), "needs 21 cloze lines and has 20"),
        (first_line("no subject in"), "must hold {subject} once"),
        (first_line("{subject} and {subject} are in"), "must hold {subject} once"),
        (first_line("ash {subject} lies in "), "begin or end with a space"),
        (first_line("ASH {subject} cedar in"), "stands twice"),
        (first_line("a b c d ash {subject} cedar in e f g ash {subject} elm in"), "{subject} once"),
    ],
)
def test_a_broken_rule_is_named_with_file_and_relation(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], rule: str
) -> None:
    relation = entry()
    change(relation)
    path = write(tmp_path, {"good": entry(), "bad": relation})
    with pytest.raises(SftbenchError) as raised:
        load_templates(path)
    assert str(path) in str(raised.value)
    assert "relation bad" in str(raised.value)
    assert rule in str(raised.value)


def test_two_lines_that_share_four_trigrams_are_too_alike(tmp_path: Path) -> None:
    relation = entry()
    relation["cloze"][0] = "the big old town of {subject} belongs to"
    relation["cloze"][1] = "well, the big old town of {subject} is found in"
    with pytest.raises(SftbenchError, match="share 4 word trigrams, more than 3"):
        load_templates(write(tmp_path, {"bad": relation}))
    relation["cloze"][1] = "well, the big old town called {subject} is found in"
    assert load_templates(write(tmp_path, {"good": relation})).relations


@pytest.mark.parametrize("content", [[], {}, "text", None])
def test_a_file_without_relations_is_an_error(tmp_path: Path, content: object) -> None:
    with pytest.raises(SftbenchError, match="maps each relation"):
        load_templates(write(tmp_path, content))


def test_a_missing_or_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SftbenchError, match="no such template file"):
        load_templates(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(SftbenchError, match="cannot be read as YAML"):
        load_templates(tmp_path / "bad.yaml")
