"""The paper's filter of EntityQuestions: which records become facts, and how many do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from sftbench.common.digests import digest_of
from sftbench.facts.entityquestions_files import Record, opened, records_of, sha256_of

IN_DOMAIN = ("P17", "P19", "P20", "P36", "P69", "P131", "P159", "P276", "P495", "P740")
"""The location relations; the order decides which of two equal questions stays."""
OUT_OF_DOMAIN = (
    *("P26", "P40", "P50", "P106", "P112", "P127", "P136"),
    *("P170", "P175", "P176", "P264", "P407", "P413", "P800"),
)
GROUPS = (("in", "train"), ("in", "test"), ("out", "test"), ("out", "train"))
"""Domain and split, as they are read; the development files are not used."""
MOST_CANDIDATES = 1_000
"""Facts of an out-of-domain train file that are looked at: only 24 of them become shots."""

RECORDS = "records"
NOT_ONE_ANSWER = "dropped_not_one_answer"
REPEATED = "dropped_repeated_question"


@dataclass(frozen=True)
class Kept:
    """What the filter keeps of the files.

    Attributes:
        frame: columns domain, split, relation, question, answer (all text), in reading order.
        counts: of records, before and after the filter, each by "domain/split"; and
            test_records_asked_in_train, before the filter.
        digest: of the content of all files that were read.
    """

    frame: pl.DataFrame
    counts: Mapping[str, Any]
    digest: str


def kept_of(source: Path) -> Kept:
    """Read a folder or zip file and filter it: one answer; of equal questions of a split the first.

    Raises:
        SftbenchError: files that are missing, unsafe, broken or of another form.
    """
    rows: list[tuple[str, str, str, str, str]] = []
    sums: dict[str, str] = {}
    count = _Count()
    with opened(source) as read:
        for domain, split, relation, name in files():
            content = read(name)
            sums[name] = sha256_of(content)
            kept = list(count.kept(f"{domain}/{split}", records_of(content, f"{source}: {name}")))
            most = MOST_CANDIDATES if (domain, split) == ("out", "train") else None
            rows.extend((domain, split, relation, *pair) for pair in kept[:most])
    columns = ("domain", "split", "relation", "question", "answer")
    values = dict(zip(columns, zip(*rows, strict=True), strict=True))
    frame = pl.DataFrame({name: list(values.get(name, ())) for name in columns})
    return Kept(frame.cast(pl.String), count.counts(), digest_of(sums))


def files() -> Iterator[tuple[str, str, str, str]]:
    """Yield domain, split, relation and path of every file that is read."""
    for domain, split in GROUPS:
        for relation in IN_DOMAIN if domain == "in" else OUT_OF_DOMAIN:
            yield domain, split, relation, f"{split}/{relation}.{split}.json"


class _Count:
    """Filters records group by group, and counts what it drops."""

    def __init__(self) -> None:
        names = (RECORDS, NOT_ONE_ANSWER, REPEATED)
        self._counted: dict[str, Counter[str]] = {name: Counter() for name in names}
        self._asked: dict[str, Counter[str]] = {}
        self._seen: dict[str, set[str]] = {}

    def kept(self, group: str, records: Sequence[Record]) -> Iterator[tuple[str, str]]:
        """Yield question and answer of the records that stay."""
        seen = self._seen.setdefault(group, set())
        asked = self._asked.setdefault(group, Counter())
        for question, answers in records:
            asked[question] += 1
            self._counted[RECORDS][group] += 1
            if len(answers) != 1:
                self._counted[NOT_ONE_ANSWER][group] += 1
            elif question in seen:
                self._counted[REPEATED][group] += 1
            else:
                seen.add(question)
                yield question, answers[0]

    def counts(self) -> dict[str, Any]:
        """Return the counts of `Kept`."""
        train, test = self._asked["in/train"], self._asked["in/test"]
        return {
            **{name: dict(sorted(groups.items())) for name, groups in self._counted.items()},
            "test_records_asked_in_train": sum(
                count for question, count in test.items() if question in train
            ),
        }
