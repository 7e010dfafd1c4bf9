"""The browser that tests of pages use, and what is done where there is none.

It is `chromium`, `chromium-browser` or `google-chrome`, or what SFTBENCH_CHROMIUM names. Without
one these tests are skipped; with SFTBENCH_REQUIRE_BROWSER set, as in CI, they fail.
"""

from __future__ import annotations

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = os.environ.get("SFTBENCH_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
NONE = f"no browser: none of {', '.join(NAMES)}, and no SFTBENCH_CHROMIUM"
REQUIRED = bool(os.environ.get("SFTBENCH_REQUIRE_BROWSER"))

needs_browser = pytest.mark.skipif(BROWSER is None and not REQUIRED, reason=NONE)


def browser_path() -> str:
    """Return the browser's program; the test fails where there is none."""
    if BROWSER is None:
        pytest.fail(NONE)
    return BROWSER
