"""How much a Parquet file unpacks to, read from its page headers before anything is unpacked.

A file of some kilobytes may hold gigabytes: compressed text, or one value repeated a billion times.
What a page unpacks to stands in its header, which the reader that unpacks it goes by, too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from sftbench_leaderboard.strict_json import RefusedError

MOST_UNPACKED = 512 * 1024 * 1024
MOST_VALUES = 16_000_000
"""Values of all columns, elements of lists counted one by one."""
MOST_PAGES = 100_000
DEEPEST = 16
MAGIC = b"PAR1"
TAIL = len(MAGIC) + 4

# Field numbers of Parquet's Thrift definitions.
ROW_GROUPS, COLUMNS, META = 4, 1, 3
PACKED_SIZE, DATA_OFFSET, DICTIONARY_OFFSET = 7, 9, 11
UNPACKED_PAGE, PACKED_PAGE = 2, 3
HEADERS = (5, 7, 8)
"""Of a data page, a dictionary page, a data page of the second version."""
NUM_VALUES = 1
TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


def require_bounded(content: bytes) -> None:
    """Raise unless a Parquet file is known to unpack to a bounded size.

    Raises:
        RefusedError: it is no Parquet file, or unpacks to too many bytes or values.
    """
    try:
        unpacked = values = 0
        for pages, header in enumerate(_pages(content)):
            unpacked += _count(header[UNPACKED_PAGE])
            values += sum(_count(header[one][NUM_VALUES]) for one in HEADERS if one in header)
            if unpacked > MOST_UNPACKED or values > MOST_VALUES or pages >= MOST_PAGES:
                raise RefusedError("too-large", "unpacks to more than is allowed", "items")
    except (LookupError, TypeError, ValueError, AttributeError, struct.error) as error:
        what = f"is no Parquet file ({type(error).__name__})"
        raise RefusedError("items-unreadable", what) from None


def _pages(content: bytes) -> Iterator[dict[int, Any]]:
    """Yield the header of every page of every column, as often as a column names it."""
    if len(content) < TAIL + len(MAGIC) or not content.endswith(MAGIC):
        raise ValueError("no Parquet")
    (length,) = struct.unpack_from("<I", content, len(content) - TAIL)
    footer = len(content) - TAIL - length
    if footer < 0:
        raise ValueError("no footer")
    for group in _Compact(content, footer).read_struct()[ROW_GROUPS]:
        for column in group[COLUMNS]:
            meta = column[META]
            starts = [meta[one] for one in (DATA_OFFSET, DICTIONARY_OFFSET) if meta.get(one)]
            at = min(map(_count, starts))
            end = at + _count(meta[PACKED_SIZE])
            while at < end:
                reader = _Compact(content, at)
                header = reader.read_struct()
                yield header
                at = reader.at + _count(header[PACKED_PAGE])


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("no size")
    return value


class _Compact:
    """Reads Thrift's compact protocol: structs as field number to value, text left out."""

    def __init__(self, content: bytes, at: int) -> None:
        self.content, self.at = content, at

    def read_struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > DEEPEST:
            raise ValueError("too deep")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            number = number + step if step else self._signed()
            found[number] = kind == TRUE if kind in (TRUE, FALSE) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind == STRUCT:
            return self.read_struct(depth + 1)
        if kind in (LIST, SET):
            return self._list(depth + 1)
        if kind == MAP:
            raise ValueError("Parquet has no maps")
        if kind == BINARY:
            return self._skip(self._varint())
        if kind == DOUBLE:
            return self._skip(8)
        return self._byte() if kind in (TRUE, FALSE, BYTE) else self._signed()

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        size, kind = head >> 4, head & 15
        size = self._varint() if size == 15 else size
        if size > len(self.content) - self.at or depth > DEEPEST:  # an element is a byte at least
            raise ValueError("no such list")
        return [self._value(kind, depth) for _ in range(size)]

    def _signed(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("no number")

    def _byte(self) -> int:
        self.at += 1
        return self.content[self.at - 1]

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.content):
            raise ValueError("cut off")
