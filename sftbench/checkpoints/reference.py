"""References: short names of models (`lab`, `smollm2`) and local folders, as folders on disk."""

from __future__ import annotations

from pathlib import Path

from sftbench.common.errors import SftbenchError

KNOWN_MODELS = ("lab", "smollm2")
"""Names that `resolve` knows besides local folders."""


def resolve(ref: str) -> Path:
    """Return the checkpoint folder that a reference names.

    Args:
        ref: "lab" (the small model that ships with this package), "smollm2"
            (SmolLM2-135M-Instruct, converted once into the cache), or a local folder. A local
            folder that happens to have one of these names is written as "./lab".

    Raises:
        SftbenchError: the reference is none of these, or what it needs is not installed.
    """
    if ref == "lab":
        return _lab_folder()
    if ref == "smollm2":
        from sftbench.checkpoints.smollm2 import smollm2_folder

        return smollm2_folder()
    folder = Path(ref).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise SftbenchError(
            "is a file where a checkpoint folder is needed",
            where=folder,
            remedy="Name the folder that holds config.json and the .safetensors files.",
        )
    raise SftbenchError(
        f"there is no model {ref!r}: it is none of {', '.join(KNOWN_MODELS)}, "
        f"and there is no folder {folder.absolute()}",
        remedy="Models are not downloaded by their hub id yet: download it yourself and name "
        "the local folder.",
    )


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
