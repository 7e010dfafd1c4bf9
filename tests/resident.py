"""How much memory a test's process holds."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest


def resident() -> int:
    """Return the bytes that this process has in memory; skip where the system does not say."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("this system does not say how much memory a process holds")
    gc.collect()
    (line,) = [one for one in status.read_text().splitlines() if one.startswith("VmRSS:")]
    return 1024 * int(line.split()[1])
