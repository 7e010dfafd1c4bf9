"""Where cards are shared: a folder, an fsspec address, or a data set repository of the hub."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol

from sftbench.common.errors import SftbenchError
from sftbench.common.files import atomic_file
from sftbench.mastery.canonical import is_canonical, place_of
from sftbench.mastery.card import MasteryCard

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


class Pushed(NamedTuple):
    """Where a card lies in a store, and whether it was there already."""

    name: str
    there: bool


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


def push(card: MasteryCard, store: Store, *, where: str) -> Pushed:
    """Put a card into a store, at the place that is named by what made it.

    Raises:
        SftbenchError: another card lies there already: same base, facts and settings, other rows.
    """
    name = place_of(card.record)
    with tempfile.TemporaryDirectory(prefix="sftbench-") as folder:
        path = Path(folder) / "card.parquet"
        if name in store.names(str(PurePosixPath(name).parent)):
            store.fetch(name, path)
            there = MasteryCard.read(path)
            if there.digest == card.digest:
                return Pushed(name, True)
            raise SftbenchError(
                f"holds another card of the same base, facts and settings (digest "
                f"{there.digest[:12]}; this one: {card.digest[:12]})",
                where=f"{where}: {name}",
                remedy="Cards of the same seed differ where processors round differently. Keep "
                "the one that is there, or remove it first.",
            )
        card.write(path)
        message = f"Mastery of {card.record['model_name']} on {card.record['facts_name']}"
        store.put(path, name, message)
    return Pushed(name, False)


def pull(
    store: Store,
    *,
    where: str,
    model_digest: str,
    facts_digest: str,
    digest: str | None = None,
) -> MasteryCard:
    """Return a card of a base and a fact set from a store, checked against its own digest.

    Where there are several, the canonical one is meant.

    Args:
        store: where to look.
        where: what a person calls it.
        model_digest: of the base.
        facts_digest: of the fact set.
        digest: the card that is wanted, by the first characters of its digest.

    Raises:
        SftbenchError: there is none, or several, or it is not what its digest says.
    """
    under = str(
        PurePosixPath(place_of({"model_digest": model_digest, "facts_digest": facts_digest})).parent
    )
    names = [name for name in store.names(under) if name.endswith(".parquet")]
    cards: list[MasteryCard] = []
    wrong: list[SftbenchError] = []
    with tempfile.TemporaryDirectory(prefix="sftbench-") as folder:
        for number, name in enumerate(sorted(names)):
            path = Path(folder) / f"{number}.parquet"
            store.fetch(name, path)
            try:
                cards.append(_checked(path, model_digest, facts_digest, where, name))
            except SftbenchError as error:  # one that is spoilt does not take the others with it
                wrong.append(error)
    if digest is not None:
        cards = [card for card in cards if card.digest.startswith(digest)]
    elif len(cards) > 1:
        # Of all facts, and of those of the test split: the first holds the second.
        shared = sorted(filter(is_canonical, cards), key=lambda card: card.frame.height)
        cards = shared[-1:] or cards
    if len(cards) == 1:
        return cards[0]
    if not cards and wrong:
        raise wrong[0]
    if not cards:
        raise SftbenchError(
            f"holds no card of this base (digest {model_digest[:12]}) on these facts (digest "
            f"{facts_digest[:12]})" + (f" with the digest {digest}" if digest else ""),
            where=where,
            remedy="Make one with `sftbench mastery`, and share it with `sftbench card push`.",
        )
    raise SftbenchError(
        f"holds {len(cards)} cards of this base on these facts, by "
        f"{', '.join(sorted({card.estimator for card in cards}))}, and none is the canonical one",
        where=where,
        remedy="Name the one that you want with --digest.",
    )


def _checked(
    path: Path, model_digest: str, facts_digest: str, where: str, name: str
) -> MasteryCard:
    try:
        card = MasteryCard.read(path)
    except SftbenchError as error:
        raise SftbenchError(
            error.what, where=f"{where}: {name}", remedy="Do not use it; remove it."
        ) from None
    held = (card.record["model_digest"], card.record["facts_digest"])
    if held != (model_digest, facts_digest) or place_of(card.record) != name:
        raise SftbenchError(
            "is not the card that its name says",
            where=f"{where}: {name}",
            remedy="Somebody moved or replaced it; do not use it.",
        )
    return card


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
