"""What to call a checkpoint in a record: its short name, or that of its folder."""

from __future__ import annotations

from pathlib import Path

from sftbench.checkpoints.smollm2 import FOLDER
from sftbench.common.files import cache_folder

SHORT_NAMES = {"lab": "sftbench-lab", "smollm2": "SmolLM2-135M-Instruct"}


def name_of(folder: Path) -> str:
    """Return what people call the model in a folder; the folder's own name where nobody knows."""
    import sftbench

    known = {
        Path(sftbench.__file__).parent / "lab" / "data" / "model": SHORT_NAMES["lab"],
        cache_folder() / "models" / FOLDER: SHORT_NAMES["smollm2"],
    }
    resolved = folder.expanduser().resolve()
    for place, name in known.items():
        if place.resolve() == resolved:
            return name
    return resolved.name
