"""Base and tuned as two full checkpoint folders: found, downloaded, merged, and said aloud."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sftbench.checkpoints.adapters import Adapter, can_be_checked, is_adapter, open_adapter
from sftbench.checkpoints.digest import checkpoint_digest
from sftbench.checkpoints.lineage import Lineage, search_base
from sftbench.checkpoints.merging import can_be_laid_over, merged
from sftbench.checkpoints.names import name_of
from sftbench.checkpoints.reference import Resolved, resolve_checkpoint
from sftbench.common.errors import SftbenchError


@dataclass(frozen=True)
class Pair:
    """Two full checkpoints to lay side by side.

    Attributes:
        base: folder of the base.
        tuned: folder of the tuned model; of an adapter, merged into the base, in the cache, or
            the adapter itself.
        base_name: the reference that the base was found by.
        tuned_name: the reference of the tuned model.
        notes: what was decided and must be said, a sentence each: the base that was found and
            where it stands, the commits of models on the hub, the adapter that was merged.
    """

    base: Path
    tuned: Path
    base_name: str
    tuned_name: str
    notes: tuple[str, ...]


def find_pair(
    tuned: str,
    base: str | None = None,
    *,
    tuned_revision: str | None = None,
    base_revision: str | None = None,
    merge: bool = True,
) -> Pair:
    """Return base and tuned as full checkpoints.

    Args:
        tuned: short name, folder or hub id of the tuned model, which may be an adapter.
        base: the same of the base; None looks for it in the tuned model's own files.
        tuned_revision: branch, tag or commit on the hub.
        base_revision: the same of the base.
        merge: write an adapter's merged model; else one that can be merged tensor by tensor
            stays the adapter that it is.

    Raises:
        SftbenchError: a reference cannot be resolved, no base is named or found, what was found
            has other weights than the tuned model's record says, or the adapter cannot be merged.
    """
    after = resolve_checkpoint(tuned, revision=tuned_revision)
    found = _found(after.path) if base is None else None
    ref = base if found is None else found.ref
    before = resolve_checkpoint(
        str(ref), revision=base_revision or (found.revision if found else None)
    )
    notes = [*_commit(after), *_source(found), *_commit(before)]
    _require_recorded(found, before.path)
    path = after.path
    if is_adapter(path):
        notes.append(
            f"The tuned model is {open_adapter(path).words}; it is merged into the base in fp32."
        )
        notes += _unchecked(open_adapter(path), before.path)
        if merge or not can_be_laid_over(path, before.path):
            path = merged(path, before.path)
    return Pair(before.path, path, before.name, after.name, tuple(notes))


def _unchecked(adapter: Adapter, base: Path) -> list[str]:
    """Return a warning where the adapter names a base that cannot be held against this one."""
    if adapter.base_ref is None or can_be_checked(adapter, base):
        return []
    return [
        f"The adapter says that it was trained on {adapter.base_ref}; whether that is "
        f"{name_of(base)} cannot be known from its name. If it is another model, every figure of "
        "the tuned side is void."
    ]


def _found(tuned: Path) -> Lineage:
    search = search_base(tuned)
    if search.found is None:
        reasons = f" ({' '.join(search.ignored)})" if search.ignored else ""
        raise SftbenchError(
            f"the base of this model is not named, and its files do not say it{reasons}",
            where=tuned,
            remedy="Name the base with --base.",
        )
    return search.found


def _source(found: Lineage | None) -> list[str]:
    return [] if found is None else [f"{found.words[0].upper()}{found.words[1:]}."]


def _commit(resolved: Resolved) -> list[str]:
    return [] if resolved.commit is None else [f"{resolved.words}."]


def _require_recorded(found: Lineage | None, base: Path) -> None:
    if found is None or found.digest is None:
        return
    now = checkpoint_digest(base)
    if now != found.digest:
        raise SftbenchError(
            f"the base {found.ref}, by {found.source}, has other weights than were tuned "
            f"(digest {now[:12]} in place of {found.digest[:12]})",
            where=base,
            remedy="Name the folder that holds the base of that day with --base.",
        )
