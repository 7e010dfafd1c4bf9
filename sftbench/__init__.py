"""sftbench: what a fine-tune did to what a language model knows.

Importing the package is free: every heavy library (torch, transformers, lm_eval, trl) is imported
by the function that needs it, or with the name that stands for it here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["RetentionCallback", "__version__"]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sftbench.watch.callback import RetentionCallback
else:

    def __getattr__(name: str) -> object:
        """Return what is imported only where it is asked for."""
        if name != "RetentionCallback":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from sftbench.watch.callback import RetentionCallback

        return RetentionCallback
