"""Start of the command line, as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.conftest import Measure
from benchmarks.references import PROCESS

PROGRAM = Path(sys.executable).with_name("sftbench")


def start(option: str) -> None:
    """Run the program with one option, its output thrown away."""
    subprocess.run([PROGRAM, option], check=True, stdout=subprocess.DEVNULL)


def bench_start_version(measure: Measure) -> None:
    """Run `sftbench --version`."""
    measure(PROCESS, lambda: start("--version"))


def bench_start_help(measure: Measure) -> None:
    """Run `sftbench --help`."""
    measure(PROCESS, lambda: start("--help"))
