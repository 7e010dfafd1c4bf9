"""Loggers of other libraries, kept quiet where what they say is not for the user."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_only(logger: str) -> Iterator[None]:
    """Let a library log nothing less than errors in the block.

    Args:
        logger: its name, such as "lm_eval".
    """
    found = logging.getLogger(logger)
    before = found.level
    found.setLevel(logging.ERROR)
    try:
        yield
    finally:
        found.setLevel(before)
