"""The engine of a check: made once from the base, measured, then lent to the comparison."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from sftbench.engines.protocol import Engine
from sftbench.engines.settings import EngineFactory, EngineSettings


class Bench:
    """Makes the engine of the base when it is first needed; what was not lent is closed.

    Args:
        factory: makes engines.
        base: checkpoint folder of the base.
        settings: of the engine.
    """

    def __init__(self, factory: EngineFactory, base: Path, settings: EngineSettings) -> None:
        self._factory = factory
        self._base = base
        self._settings = settings
        self._engine: Engine | None = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._engine is not None:
            self._engine.close()

    def engine(self) -> Engine:
        """Return the engine of the base, which holds the base's own weights."""
        if self._engine is None:
            self._engine = self._factory(self._base, self._settings)
        return self._engine

    def factory(self, path: Path, settings: EngineSettings) -> Engine:
        """Return the engine of the base for good if it is asked for, else a new one."""
        mine, self._engine = self._engine, None
        if mine is not None and (path, settings) == (self._base, self._settings):
            return mine
        if mine is not None:
            mine.close()
        return self._factory(path, settings)
