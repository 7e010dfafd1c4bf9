"""Models of the hub: downloaded into its own cache, weights and descriptions only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sftbench.common.errors import SftbenchError

if TYPE_CHECKING:
    from huggingface_hub.errors import LocalEntryNotFoundError

ALLOWED = (
    "*.safetensors", "*.json", "*.jinja", "README.md",
    "tokenizer.model", "spiece.model", "merges.txt", "vocab.txt",
)  # fmt: skip
"""What is downloaded; never a pickle (*.bin, *.pt), never code (*.py). The card names the base."""
IGNORED = ("*/*", "consolidated*")
"""Not wanted though allowed: folders (other formats, old steps), the same weights once more."""

DEFAULT_REVISION = "main"
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*", re.ASCII)


class HubId(NamedTuple):
    """A model of the hub, as people write it: "org/name" or "org/name@revision"."""

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def parse_hub_id(ref: str) -> HubId | None:
    """Return what a reference means on the hub; None if it cannot be a hub id, only a path."""
    repo, at, revision = ref.partition("@")
    if not _HUB_ID.fullmatch(repo) or ".." in repo or (at and not revision):
        return None
    return HubId(repo, revision or None)


def snapshot(wanted: HubId) -> Path:
    """Return the folder of a model in the hub's cache, downloading what is missing.

    The library's own settings count: HF_HOME says where the cache is, HF_HUB_OFFLINE forbids the
    network, HF_TOKEN or `hf auth login` open gated models. Without network, what is cached is
    used. The folder is named by the commit.

    Raises:
        SftbenchError: the model or the revision is missing or gated, it is not cached and the
            hub is not reached or not allowed, or there are no safetensors files.
    """
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise SftbenchError(
            f"the model {wanted} would have to be downloaded, and the package huggingface_hub is "
            "not installed",
            remedy='Install it with `pip install "sftbench[hf]"`, or name a local folder.',
        ) from None
    try:
        path = snapshot_download(
            wanted.repo,
            revision=wanted.revision,
            allow_patterns=list(ALLOWED),
            ignore_patterns=list(IGNORED),
        )
    except Exception as error:  # the network fails in more ways than the library names
        raise _explained(wanted, error) from error
    folder = Path(path)
    if not any(folder.glob("*.safetensors")):
        raise SftbenchError(
            f"the model {wanted} holds no safetensors files; other weights are pickles, which "
            "are never downloaded because reading one can run any code",
            remedy="Name a revision that has them (many models have a converted branch, such as "
            "refs/pr/1), or convert the model where you trust it and name the local folder.",
        )
    return folder


def hub_name(folder: Path) -> str | None:
    """Return "org/name@commit" of a folder inside a cache of the hub; None of any other."""
    place = folder.parent.parent
    if folder.parent.name != "snapshots" or not place.name.startswith("models--"):
        return None
    return f"{place.name.removeprefix('models--').replace('--', '/', 1)}@{folder.name}"


def _explained(wanted: HubId, error: Exception) -> SftbenchError:
    """Return the error for people that a failed download means."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{wanted.repo}"
    folder = Path(str(wanted)).absolute()
    match error:
        case errors.GatedRepoError():
            return SftbenchError(
                f"the model {wanted} is gated: its owner wants you to accept terms first",
                remedy=f"Accept them on the model's page ({page}), then run `hf auth login`.",
            )
        case errors.RepositoryNotFoundError():
            return SftbenchError(
                f"there is no model {wanted} on the hub that you may read, and there is no "
                f"folder {folder}",
                remedy="Check the spelling; if the model is private, run `hf auth login`.",
            )
        case errors.RevisionNotFoundError():
            return SftbenchError(
                f"the model {wanted.repo} has no revision {wanted.revision!r}",
                remedy="Name a branch, a tag or a full commit of it, or leave the revision out.",
            )
        case errors.LocalEntryNotFoundError():
            return _not_cached(wanted, error, folder)
        case errors.HFValidationError():
            return SftbenchError(
                f"{str(wanted)!r} is no hub id, and there is no folder {folder}",
                remedy="A hub id is written org/name or org/name@revision.",
            )
    first = (str(error).strip().splitlines() or [""])[0]
    return SftbenchError(
        f"the model {wanted} could not be downloaded ({type(error).__name__}: {first})",
        remedy="Try again: what is downloaded already is kept. Or name a local folder.",
    )


def _not_cached(wanted: HubId, error: LocalEntryNotFoundError, folder: Path) -> SftbenchError:
    from huggingface_hub import constants, is_offline_mode

    partly = type(error).__name__ == "IncompleteSnapshotError"  # newer versions of the library
    state = "only partly" if partly else "not"
    neither = "" if partly else f", and there is no folder {folder}"
    command = f"hf download {wanted.repo}" + (
        f" --revision {wanted.revision}" if wanted.revision else ""
    )
    if is_offline_mode():
        return SftbenchError(
            f"the model {wanted} is {state} in the cache ({constants.HF_HUB_CACHE}), and "
            f"HF_HUB_OFFLINE forbids to download it{neither}",
            remedy=f"Unset HF_HUB_OFFLINE, or run `{command}` where there is a network and copy "
            "the cache.",
        )
    return SftbenchError(
        f"the hub cannot be reached, and the model {wanted} is {state} in the cache "
        f"({constants.HF_HUB_CACHE}){neither}",
        remedy=f"Check the network and try again, or run `{command}` elsewhere and copy the cache.",
    )
