"""The folder of a site: what was written there is replaced, and what others put there stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from sftbench.common.errors import SftbenchError
from sftbench.common.files import require_free, write_json

MANIFEST = ".sftbench-site.json"
"""The files of a site, by their paths in the folder. What is not listed is not ours."""


@contextmanager
def site_folder(site: Path, results: Path | None = None) -> Iterator[Path]:
    """Yield an empty folder; once it is filled, its files replace those of an earlier site.

    A site is often built into a folder that holds more: a CNAME, the files of a repository. Only
    files that an earlier build wrote are replaced or removed.

    Args:
        site: the folder of the site; it is made where there is none.
        results: the results that it is built from, which may not lie in it, nor it in them.

    Raises:
        SftbenchError: the folder holds files but no site, or results and site lie in one another.
    """
    to = site.resolve()
    require_free(to, overwrite=True)
    if results is not None:
        _require_apart(to, results.resolve(), site)
    old = _listed(to)
    if old is None and to.is_dir() and any(to.iterdir()):
        raise SftbenchError(
            "holds files, but no site that sftbench wrote",
            where=site,
            remedy="Name another folder, or an empty one.",
        )
    to.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{to.name}.", suffix=".tmp", dir=to.parent) as scratch:
        fresh = Path(scratch)
        yield fresh
        _put(fresh, to, old or set())


def _require_apart(site: Path, results: Path, named: Path) -> None:
    if site == results or site.is_relative_to(results) or results.is_relative_to(site):
        raise SftbenchError(
            "lies in the folder of results, or holds it",
            where=named,
            remedy="Name a folder beside the results.",
        )


def _listed(site: Path) -> set[str] | None:
    """Return the files that an earlier build wrote, None where there is no list of them."""
    try:
        content = json.loads((site / MANIFEST).read_text(encoding="utf-8"))
        return {str(one) for one in content["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _put(fresh: Path, site: Path, old: set[str]) -> None:
    """Move new files into place, then remove old ones that have no successor."""
    new = sorted(one.relative_to(fresh).as_posix() for one in fresh.rglob("*") if one.is_file())
    foreign = [one for one in new if one not in old and (site / one).exists()]
    if foreign:
        raise SftbenchError(
            f"holds {foreign[0]}, which the site would replace and sftbench did not write",
            where=site,
            remedy="Name another folder, or move it away.",
        )
    site.mkdir(exist_ok=True)
    # Both lists first: whatever stops this, the next build knows its files.
    write_json(site / MANIFEST, {"files": sorted({*new, *old})})
    for name in new:
        to = site / name
        to.parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).replace(to)
    for name in old - set(new):
        _remove(site, name)
    write_json(site / MANIFEST, {"files": new})


def _remove(site: Path, name: str) -> None:
    """Remove a file of ours, and its folder where it was the last in it."""
    path = site / name
    if not path.resolve().is_relative_to(site):
        return  # a list that somebody changed
    path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == site:
            break
        with suppress(OSError):  # holds something else
            folder.rmdir()
