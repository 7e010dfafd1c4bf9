"""References: short names of models, local folders and hub ids, as folders on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sftbench.checkpoints.hub import DEFAULT_REVISION, HubId, hub_name, parse_hub_id, snapshot
from sftbench.common.errors import SftbenchError

KNOWN_MODELS = ("lab", "smollm2")
"""Names that `resolve` knows besides local folders and hub ids."""


@dataclass(frozen=True)
class Resolved:
    """What a reference turned out to be.

    Attributes:
        path: the folder.
        ref: the reference as it was given.
        revision: the branch, tag or commit that was asked for; None for what is not on the hub.
        commit: the commit that it is; None for what is not on the hub.
    """

    path: Path
    ref: str
    revision: str | None = None
    commit: str | None = None

    @property
    def name(self) -> str:
        """The reference with its revision, as it can be given again."""
        named = self.commit is None or "@" in self.ref or self.revision == DEFAULT_REVISION
        return self.ref if named else f"{self.ref}@{self.revision}"

    @property
    def words(self) -> str:
        """What to say of it: "org/name@main is commit 0123abcd", or the folder."""
        if self.commit is None:
            return f"{self.ref} is {self.path}"
        repo = self.ref.partition("@")[0]
        return f"{repo}@{self.revision} is commit {self.commit}"


def resolve(ref: str, *, revision: str | None = None) -> Path:
    """Return the checkpoint folder that a reference names, see `resolve_checkpoint`."""
    return resolve_checkpoint(ref, revision=revision).path


def resolve_checkpoint(ref: str, *, revision: str | None = None) -> Resolved:
    """Return the checkpoint folder that a reference names, and which one it is.

    Args:
        ref: "lab" (the small model that ships with this package), "smollm2"
            (SmolLM2-135M-Instruct, converted once into the cache), a local folder, or a model of
            the hub ("org/name", "org/name@revision"), which is downloaded if need be. A local
            folder comes before a hub id of the same spelling; one that has a short name is
            written as "./lab".
        revision: branch, tag or commit on the hub; in place of "@revision".

    Raises:
        SftbenchError: the reference is none of these, a revision was given for what has none or
            twice, or the model cannot be had.
    """
    if ref in KNOWN_MODELS:
        _require_no_revision(ref, revision)
        return Resolved(_known_folder(ref), ref)
    folder = Path(ref).expanduser()
    if folder.is_dir():
        _require_no_revision(ref, revision)
        return Resolved(folder, ref)
    if folder.exists():
        raise SftbenchError(
            "is a file where a checkpoint folder is needed",
            where=folder,
            remedy="Name the folder that holds config.json and the .safetensors files.",
        )
    wanted = parse_hub_id(ref)
    if wanted is None:
        raise _unknown(ref, folder)
    wanted = HubId(wanted.repo, _one_revision(ref, wanted.revision, revision))
    path = snapshot(wanted)
    return Resolved(path, ref, wanted.revision or DEFAULT_REVISION, _commit(path))


def _known_folder(name: str) -> Path:
    if name == "lab":
        return _lab_folder()
    from sftbench.checkpoints.smollm2 import smollm2_folder

    return smollm2_folder()


def _lab_folder() -> Path:
    """Return the folder of the lab model, which is package data."""
    import sftbench

    folder = Path(sftbench.__file__).parent / "lab" / "data" / "model"
    if not (folder / "config.json").is_file():
        raise SftbenchError(
            "the lab model is not in this installation",
            where=folder,
            remedy="Install sftbench again, or build the model with `sftbench lab build`.",
        )
    return folder


def _commit(path: Path) -> str | None:
    name = hub_name(path)
    return None if name is None else name.rpartition("@")[2]


def _require_no_revision(ref: str, revision: str | None) -> None:
    if revision is not None:
        raise SftbenchError(
            f"{ref} is on this machine and has no revision {revision!r}",
            remedy="Leave the revision out, or name a model of the hub (org/name).",
        )


def _one_revision(ref: str, inside: str | None, beside: str | None) -> str | None:
    if inside is not None and beside is not None and inside != beside:
        raise SftbenchError(
            f"{ref} names the revision {inside!r}, and {beside!r} is asked for",
            remedy="Name one of them.",
        )
    return inside or beside


def _unknown(ref: str, folder: Path) -> SftbenchError:
    return SftbenchError(
        f"there is no model {ref!r}: it is none of {', '.join(KNOWN_MODELS)}, there is no folder "
        f"{folder.absolute()}, and a hub id is written org/name or org/name@revision",
        remedy="Name a local folder or a model of the hub.",
    )
