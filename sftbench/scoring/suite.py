"""The suite's version: what fixes prompts, shot sets, token budgets and matching for everyone."""

from __future__ import annotations

SUITE = "1.0"
"""Counts what changes an answer or its score; the version of the lm-eval tasks, too."""
