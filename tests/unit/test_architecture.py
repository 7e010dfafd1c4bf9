"""Which room may import which: docs/architecture.md, enforced."""

import ast
from pathlib import Path

import pytest

import sftbench

pytestmark = pytest.mark.unit

ROOT = Path(sftbench.__file__).parent
ALL = {
    "analysis",
    "checkpoints",
    "cli",
    "common",
    "compare",
    "drift",
    "engines",
    "facts",
    "gate",
    "harness",
    "lab",
    "loss",
    "mastery",
    "recipes",
    "report",
    "scoring",
    "testing",
    "watch",
}
ALLOWED = {
    "common": set(),
    "facts": {"common"},
    "checkpoints": {"common"},
    "analysis": {"common"},
    "engines": {"common", "checkpoints"},
    "mastery": {"common", "facts", "engines", "checkpoints"},
    "recipes": {"common", "facts", "engines", "checkpoints", "mastery"},
    "scoring": {"common", "facts", "engines", "checkpoints"},
    "drift": {"common", "facts", "engines", "mastery"},
    "loss": {"common", "facts", "engines", "mastery", "scoring", "analysis"},
    "lab": {"common", "facts", "checkpoints", "engines", "mastery"},
    "report": {"common", "analysis"},
    "harness": {
        "common",
        "facts",
        "checkpoints",
        "engines",
        "mastery",
        "scoring",
        "analysis",
        "lab",
    },
    "compare": ALL - {"cli", "gate", "testing", "watch"},
    "testing": ALL - {"cli", "watch", "lab"},
    "gate": {"common", "facts", "checkpoints", "analysis", "scoring", "compare"},
    "watch": {"common", "facts", "engines", "checkpoints", "mastery", "scoring", "analysis"},
    "cli": ALL,
}


def imports_of(room: str) -> set[tuple[str, str]]:
    """Return (file, room) for every import of another room, lazy ones included."""
    found = set()
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "sftbench" and len(parts) > 1 and parts[1] in ALL - {room}:
                    found.add((path.name, parts[1]))
    return found


def test_every_room_is_named():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == ALL


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_what_it_may(room):
    wrong = {(file, other) for file, other in imports_of(room) if other not in ALLOWED[room]}
    assert not wrong, f"{room} may import {sorted(ALLOWED[room])} only"


def test_every_file_says_what_it_is_for():
    silent = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent
