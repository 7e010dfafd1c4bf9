"""Records of a results folder in the formats of others, as files that go where those are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_file, write_json
from sftbench_leaderboard.every_eval_ever import every_eval_ever, file_of
from sftbench_leaderboard.hub import Source, default_dataset, eval_results_yaml, model_index_yaml
from sftbench_leaderboard.layout import place_of
from sftbench_leaderboard.record import LeaderboardRecord


class Told(NamedTuple):
    """What a record does not know and a format asks for.

    Attributes:
        dataset: of the hub, "org/name"; None for "sftbench/<facts>".
        url: where the record is shown.
        organization: who provides the data.
    """

    dataset: str | None = None
    url: str | None = None
    organization: str = "sftbench"


def export(
    records: Sequence[LeaderboardRecord], out: Path, formats: Sequence[str], told: Told
) -> list[Path]:
    """Write records in other formats; files of an earlier export are replaced.

    Args:
        records: accepted records.
        out: folder; each format has a folder of its own in it.
        formats: keys of `FORMATS`.
        told: what the records do not know.

    Returns:
        the files, in order.

    Raises:
        SftbenchError: there is no such format.
    """
    unknown = [one for one in formats if one not in FORMATS]
    if unknown:
        raise SftbenchError(
            f"there is no format {unknown[0]!a}; there are {', '.join(FORMATS)}",
            where="--to",
        )
    return [FORMATS[one](record, out / one, told) for record in records for one in formats]


def _eval_results(record: LeaderboardRecord, out: Path, told: Told) -> Path:
    return _text(eval_results_yaml(record, _source(record, told)), out / _yaml_of(record))


def _model_index(record: LeaderboardRecord, out: Path, told: Told) -> Path:
    return _text(model_index_yaml(record, _source(record, told)), out / _yaml_of(record))


def _every_eval_ever(record: LeaderboardRecord, out: Path, told: Told) -> Path:
    path = out / file_of(record)
    write_json(path, every_eval_ever(record, told.organization))
    return path


FORMATS: Mapping[str, Callable[[LeaderboardRecord, Path, Told], Path]] = {
    "eval-results": _eval_results,
    "model-index": _model_index,
    "every-eval-ever": _every_eval_ever,
}
"""Name of a format to what writes a record in it and returns the file."""


def _source(record: LeaderboardRecord, told: Told) -> Source:
    return Source(told.dataset or default_dataset(record), told.url)


def _yaml_of(record: LeaderboardRecord) -> Path:
    place = place_of(record.model.name, record.model.digest, record.suite.name)
    return place.with_suffix(".yaml")


def _text(content: str, path: Path) -> Path:
    with atomic_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return path
