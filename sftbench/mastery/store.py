"""Where cards are shared: a folder, an fsspec address, or a data set repository of the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_file

_HUB = re.compile(r"(?:hf://)?datasets/([\w][\w.-]*/[\w][\w.-]*)(?:@([\w./-]+))?/?", re.ASCII)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII)


class Store(Protocol):
    """A place that holds files by name."""

    def names(self, under: str) -> list[str]:
        """Return the names of the files under a folder; none if it is not there."""
        ...

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file from here to a path."""
        ...

    def put(self, path: Path, name: str, message: str) -> None:
        """Copy a file to here, in one step: nobody sees a part of it."""
        ...


def open_store(ref: str) -> Store:
    """Return the store that a reference means.

    Args:
        ref: "datasets/ORG/NAME" or "hf://datasets/ORG/NAME" (with "@REVISION"), an fsspec address
            such as "s3://bucket/cards", or a folder.

    Raises:
        SftbenchError: a package that it needs is missing, or the address cannot be understood.
    """
    hub = None if Path(ref).is_dir() else _HUB.fullmatch(ref)
    if hub is not None:
        return HubStore(hub[1], hub[2])
    return FileStore(ref)


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Tell in our words what goes wrong in somebody's file system."""
    try:
        yield
    except SftbenchError:
        raise
    except Exception as error:  # every file system has errors of its own
        first = (str(error).splitlines() or [""])[0]
        raise SftbenchError(
            f"cannot be read or written ({type(error).__name__}: {first[:300]})",
            where=where,
            remedy="Is it there, and may you use it?",
        ) from error


class FileStore:
    """A folder, or whatever fsspec opens by its address.

    Args:
        ref: a path, or an address such as "s3://bucket/cards" or "memory://cards".

    Raises:
        SftbenchError: fsspec or the package of its protocol is missing, or it is no address.
    """

    def __init__(self, ref: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ModuleNotFoundError:
            raise SftbenchError(
                "needs the package fsspec", where=ref, remedy="pip install 'sftbench[hf]'"
            ) from None
        local = not _ADDRESS.match(ref)
        try:
            self._fs, root = url_to_fs(str(Path(ref).absolute()) if local else ref)
        except (ImportError, ValueError) as error:
            raise SftbenchError(
                f"cannot be opened: {error}",
                where=ref,
                remedy="Name a folder, an address that fsspec knows, or datasets/ORG/NAME.",
            ) from None
        self._root = root.rstrip("/")

    def names(self, under: str) -> list[str]:
        """Return the names of the files under a folder."""
        folder = f"{self._root}/{under}"
        with _told(self._root):
            if not self._fs.isdir(folder):
                return []
            self._fs.invalidate_cache()
            found = self._fs.ls(folder, detail=False)
        return [f"{under}/{PurePosixPath(name).name}" for name in found]

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file from here to a path."""
        with _told(self._root):
            self._fs.get_file(f"{self._root}/{name}", str(path))

    def put(self, path: Path, name: str, message: str) -> None:
        """Copy a file to here; on a disk under another name first, then renamed."""
        final = f"{self._root}/{name}"
        with _told(self._root):
            self._fs.makedirs(str(PurePosixPath(final).parent), exist_ok=True)
            if "file" not in self._fs.protocol:
                self._fs.put_file(str(path), final)  # a store of objects shows whole ones alone
                return
            with atomic_file(Path(final)) as temporary:
                temporary.write_bytes(path.read_bytes())


class HubStore:
    """A data set repository of the hub.

    Args:
        repo: "ORG/NAME".
        revision: a branch, tag or commit; None is the main branch.
        api: as `huggingface_hub.HfApi`; tests give another endpoint.
    """

    def __init__(self, repo: str, revision: str | None = None, api: Any = None) -> None:
        if api is None:
            try:
                from huggingface_hub import HfApi
            except ModuleNotFoundError:
                raise SftbenchError(
                    "needs the package huggingface_hub",
                    where=f"datasets/{repo}",
                    remedy="pip install 'sftbench[hf]'",
                ) from None
            api = HfApi()
        self._repo, self._revision, self._api = repo, revision, api

    def names(self, under: str) -> list[str]:
        """Return the names of the files under a folder; a repository that is not there has none."""
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            RepositoryNotFoundError,
        )

        def listed() -> list[Any]:
            try:
                found = self._api.list_repo_tree(
                    self._repo, under, revision=self._revision, repo_type="dataset"
                )
                return list(found)
            except GatedRepoError:
                raise
            except (EntryNotFoundError, RepositoryNotFoundError):
                return []

        return [item.path for item in self._asked(listed) if hasattr(item, "size")]

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file from here to a path."""
        got = self._asked(
            lambda: self._api.hf_hub_download(
                self._repo, name, revision=self._revision, repo_type="dataset"
            )
        )
        path.write_bytes(Path(got).read_bytes())

    def put(self, path: Path, name: str, message: str) -> None:
        """Commit a file; the repository is made if it is not there."""
        self._asked(lambda: self._api.create_repo(self._repo, repo_type="dataset", exist_ok=True))
        self._asked(
            lambda: self._api.upload_file(
                path_or_fileobj=str(path),
                path_in_repo=name,
                repo_id=self._repo,
                repo_type="dataset",
                revision=self._revision,
                commit_message=message,
            )
        )

    def _asked(self, ask: Any) -> Any:
        """Return what the hub answers; what goes wrong on the way is told in our words."""
        try:
            return ask()
        except Exception as error:  # the network fails in more ways than the library names
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise SftbenchError(
                f"the hub does not do it ({type(error).__name__}: {first[:300]})",
                where=f"datasets/{self._repo}",
                remedy="Is the network there, and `hf auth login` done with a token that may "
                "write?",
            ) from error
