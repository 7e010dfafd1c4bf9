"""What models are called in a record, and what their folders tell where they lie here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from sftbench.checkpoints.tokenizers import chat_template_digest
from sftbench.checkpoints.weights import tensor_headers
from sftbench.common.errors import SftbenchError
from sftbench_leaderboard.text import cleaned


class Names(NamedTuple):
    """What a submitter says of a model.

    Attributes:
        model: "org/model".
        base: what to call the base.
        method: how it was tuned: "full", "lora" ...
        parameters: scalars of the tuned model.
    """

    model: str | None = None
    base: str | None = None
    method: str | None = None
    parameters: int | None = None


def base_label(name: str) -> str:
    """Return what to call a base: of a local folder its own name alone, as its path is private."""
    local = Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") > 1
    return cleaned(Path(name).name if local else name) or "base"


def facts_of_folder(name: str) -> tuple[int | None, str | None]:
    """Return the scalars and the digest of the chat template of a checkpoint, None if unknown."""
    folder = Path(name)
    try:
        if not folder.is_dir():
            return None, None
        shapes = [header.shape for header in tensor_headers(folder).values()]
        return sum(map(math.prod, shapes)), chat_template_digest(folder)
    except (SftbenchError, OSError):
        return None, None  # not needed, and no reason to refuse a record
