"""Engines that outlive one comparison: made once, measured, lent to one run after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from sftbench.engines.protocol import Engine
from sftbench.engines.settings import EngineFactory, EngineSettings


class Bench:
    """A factory that keeps the engine that it made last, and gives it again for the same folder.

    Args:
        factory: makes engines.
        base: checkpoint folder of the base.
        settings: of the engine.
    """

    def __init__(self, factory: EngineFactory, base: Path, settings: EngineSettings) -> None:
        self._factory = factory
        self._base = base
        self._settings = settings
        self._made: tuple[Path, EngineSettings] | None = None
        self._engine: Engine | None = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def engine(self) -> Engine:
        """Return the engine of the base; whoever asks it loads the weights that they want."""
        return self(self._base, self._settings)

    def __call__(self, path: Path, settings: EngineSettings) -> Engine:
        """Return the engine of a folder; another one is closed before it is made."""
        if self._engine is None or self._made != (path, settings):
            self._close()
            self._engine, self._made = self._factory(path, settings), (path, settings)
        return self._engine

    def _close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


@contextmanager
def kept(factory: EngineFactory, base: Path, settings: EngineSettings) -> Iterator[Bench]:
    """Give a bench for the time of the block; one that is there already outlives it."""
    if isinstance(factory, Bench):
        yield factory
        return
    with Bench(factory, base, settings) as bench:
        yield bench


@contextmanager
def lent(factory: EngineFactory, path: Path, settings: EngineSettings) -> Iterator[Engine]:
    """Give an engine for the time of the block; one that a bench keeps is not closed after it."""
    engine = factory(path, settings)
    try:
        yield engine
    finally:
        if not isinstance(factory, Bench):
            engine.close()
