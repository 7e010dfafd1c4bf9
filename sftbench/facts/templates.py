"""Cloze templates and question forms: read from a YAML file that users extend, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from sftbench.common.errors import SftbenchError
from sftbench.facts.table import TEMPLATES_PER_RELATION

SUBJECT = "{subject}"
MOST_SHARED_TRIGRAMS = 3
"""Two templates of a relation may share at most this many word trigrams."""


@dataclass(frozen=True)
class RelationTemplates:
    """How one relation is asked.

    Attributes:
        question: the question form, with ``{subject}`` once and a question mark at the end.
        cloze: 21 sentences that break off where the answer begins, ``{subject}`` once in each.
    """

    question: str
    cloze: tuple[str, ...]

    def ask(self, subject: str) -> str:
        """Return the question about a subject."""
        return self.question.replace(SUBJECT, subject)

    def subject_of(self, question: str) -> str | None:
        """Return the subject of a question, or None where the question is of another form."""
        before, after = self.question.split(SUBJECT)
        if not (question.startswith(before) and question.endswith(after)):
            return None
        return question[len(before) : len(question) - len(after)].strip() or None


@dataclass(frozen=True)
class TemplateFile:
    """The relations of one template file, in the file's order."""

    relations: Mapping[str, RelationTemplates]

    @property
    def cloze(self) -> dict[str, tuple[str, ...]]:
        """Relation to its cloze templates: what a `FactSet` holds."""
        return {name: relation.cloze for name, relation in self.relations.items()}


def bundled_templates(source: str) -> Path:
    """Return the path of the template file that ships for a source, such as "geography"."""
    return Path(str(resources.files("sftbench.facts"))) / "data" / "templates" / f"{source}.yaml"


def load_templates(path: Path) -> TemplateFile:
    """Read and check a template file: relation to `question` and 21 lines of `cloze`.

    Raises:
        SftbenchError: the file cannot be read, or a relation breaks a rule; the error names the
            file, the relation and the rule.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SftbenchError("there is no such template file", where=path) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SftbenchError(f"cannot be read as YAML ({error})", where=path) from None
    if not isinstance(content, dict) or not content:
        raise SftbenchError(
            "a template file maps each relation to its question and cloze lines",
            where=path,
            remedy=f"See {bundled_templates('geography')} for one that is right.",
        )
    return TemplateFile(
        {str(name): _relation(str(name), entry, path) for name, entry in content.items()}
    )


def _relation(name: str, entry: Any, path: Path) -> RelationTemplates:
    """Return one checked relation of the file."""
    rule = broken_rule(entry)
    if rule:
        raise SftbenchError(
            f"relation {name}: {rule}", where=path, remedy="Mend that relation in the file."
        )
    return RelationTemplates(entry["question"], tuple(entry["cloze"]))


def broken_rule(entry: Any) -> str | None:
    """Return the first rule that a relation's entry breaks, in words; None where all hold."""
    if not isinstance(entry, dict) or set(entry) != {"question", "cloze"}:
        return "needs `question` and `cloze`, and nothing else"
    question, cloze = entry["question"], entry["cloze"]
    if not isinstance(question, str) or question.count(SUBJECT) != 1 or question[-1:] != "?":
        return f"the question must hold {SUBJECT} once and end with a question mark"
    if not isinstance(cloze, list) or not all(isinstance(line, str) for line in cloze):
        return "`cloze` must be a list of lines"
    if len(cloze) != TEMPLATES_PER_RELATION:
        return f"needs {TEMPLATES_PER_RELATION} cloze lines and has {len(cloze)}"
    for line in cloze:
        if line.count(SUBJECT) != 1:
            return f"each cloze line must hold {SUBJECT} once: {line!r}"
        if line != line.strip():
            return f"a cloze line must not begin or end with a space: {line!r}"
    return _too_alike(cloze)


def _too_alike(cloze: list[str]) -> str | None:
    for index, line in enumerate(cloze):
        for other in cloze[:index]:
            if line.casefold() == other.casefold():
                return f"a cloze line stands twice: {line!r}"
            shared = len(word_trigrams(line) & word_trigrams(other))
            if shared > MOST_SHARED_TRIGRAMS:
                return (
                    f"two cloze lines share {shared} word trigrams, more than "
                    f"{MOST_SHARED_TRIGRAMS}: {other!r} and {line!r}"
                )
    return None


def word_trigrams(line: str) -> set[tuple[str, str, str]]:
    """Return the runs of three words of a line, in lower case; ``{subject}`` is one word."""
    words = [word.strip(",.;:!?\"'()") for word in line.casefold().split()]
    words = [word for word in words if word]
    return set(zip(words, words[1:], words[2:], strict=False))
