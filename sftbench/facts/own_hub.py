"""Reads a Hugging Face data set, from the hub or from a folder, for import as facts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl

from sftbench.common.errors import SftbenchError

SPLIT = "(data set split)"
"""The column that holds the name of the data set's split."""
_ID = re.compile(r"[\w.-]+/[\w.-]+")


def is_hub_id(source: str) -> bool:
    """Return whether a source reads as "organisation/name" and is nothing on this disk."""
    return _ID.fullmatch(source) is not None and not Path(source).exists()


def read_dataset(source: str, *, config: str | None, revision: str | None) -> pl.DataFrame:
    """Return all rows of a data set, with the name of their split in the column `SPLIT`.

    Args:
        source: a hub id, a folder made by `save_to_disk`, or a folder of data files.
        config: the configuration, where there are several.
        revision: branch, tag or commit on the hub.

    Raises:
        SftbenchError: `datasets` is not installed, or the data set cannot be loaded.
    """
    try:
        import datasets
    except ModuleNotFoundError:
        raise SftbenchError(
            "the package datasets is needed to read a Hugging Face data set",
            remedy='Install it: pip install "sftbench[train]" (or datasets alone).',
        ) from None
    try:
        loaded = _load(datasets, source, config, revision)
        return _frame(loaded if isinstance(loaded, dict) else {str(loaded.split or ""): loaded})
    except SftbenchError:
        raise
    except Exception as error:  # datasets raises its own, the hub's, the network's and pyarrow's
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise SftbenchError(
            f"cannot be loaded as a data set ({type(error).__name__}: {first[:300]})",
            where=source,
            remedy=_remedy(source),
        ) from None


def _load(datasets: Any, source: str, config: str | None, revision: str | None) -> Any:
    folder = Path(source)
    saved = ("dataset_dict.json", "state.json")
    if folder.is_dir() and any((folder / name).is_file() for name in saved):
        return datasets.load_from_disk(source)
    return datasets.load_dataset(source, config, revision=revision)


def _remedy(source: str) -> str:
    if Path(source).exists():
        return "Name a folder made by save_to_disk, or one that holds CSV, JSON or Parquet files."
    return (
        "Check the name, --config and --revision; a gated data set needs `hf auth login`; without "
        "a network, give a file or a folder."
    )


def _frame(splits: Any) -> pl.DataFrame:
    frames: list[pl.DataFrame] = [
        dataset.to_polars().with_columns(pl.lit(str(name)).alias(SPLIT))
        for name, dataset in splits.items()
    ]
    return pl.concat(frames, how="diagonal_relaxed")
