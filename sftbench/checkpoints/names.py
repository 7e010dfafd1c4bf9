"""What to call a checkpoint in a record: its short name, its hub id, or that of its folder."""

from __future__ import annotations

import json
from pathlib import Path

from sftbench.checkpoints.hub import hub_name
from sftbench.checkpoints.smollm2 import FOLDER
from sftbench.checkpoints.writer import RECORD
from sftbench.common.files import cache_folder

SHORT_NAMES = {"lab": "sftbench-lab", "smollm2": "SmolLM2-135M-Instruct"}


def name_of(folder: Path) -> str:
    """Return what people call the model in a folder; the folder's own name where nobody knows.

    A model of the hub is "org/name@commit", an adapter that was merged "ADAPTER on BASE".
    """
    import sftbench

    known = {
        Path(sftbench.__file__).parent / "lab" / "data" / "model": SHORT_NAMES["lab"],
        cache_folder() / "models" / FOLDER: SHORT_NAMES["smollm2"],
    }
    resolved = folder.expanduser().resolve()
    for place, name in known.items():
        if place.resolve() == resolved:
            return name
    return hub_name(resolved) or _recorded_name(resolved) or resolved.name


def _recorded_name(folder: Path) -> str | None:
    """Return the name that a folder's own record gives it, as that of a merged adapter does."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        name = content["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None
