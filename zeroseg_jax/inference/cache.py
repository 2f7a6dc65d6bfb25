"""Thread-safe LRU cache, limited by number of entries and by bytes."""

from __future__ import annotations

import collections
import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LruCache(Generic[Value]):
    """Mapping that evicts the least recently used entries; for any number of threads.

    Args:
      max_entries: number of entries.
      max_bytes: bytes of all entries together; the newest entry stays whatever its size.
    """

    def __init__(self, max_entries: int, max_bytes: int = 1 << 62):
        self._max_entries, self._max_bytes = max_entries, max_bytes
        self._lock = threading.Lock()
        self._entries: collections.OrderedDict[Hashable, tuple[Value, int]]
        self.clear()

    def get(self, key: Hashable) -> Value | None:
        """Return the value, now the most recently used; None if it is not cached."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, value: Value, nbytes: int = 0) -> None:
        """Add or replace an entry of `nbytes` bytes."""
        with self._lock:
            _, before = self._entries.pop(key, (None, 0))
            self._entries[key] = (value, nbytes)
            self._bytes += nbytes - before
            while len(self._entries) > self._max_entries or (
                self._bytes > self._max_bytes and len(self._entries) > 1
            ):
                _, (_, evicted) = self._entries.popitem(last=False)
                self._bytes -= evicted

    def clear(self) -> None:
        """Evict every entry."""
        with self._lock:
            self._entries, self._bytes = collections.OrderedDict(), 0
