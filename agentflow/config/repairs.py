"""What was dropped or read as another key so that the rest of a configuration can still be checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agentflow.config.display import KeyPath


class Repairs:
    """Drops and renames in a configuration's data, and leads paths in it back to the text.

    `broken` holds the paths, as the text has them, whose values are not what the text says.
    """

    def __init__(self, data: dict[str, Any], broken: Iterable[KeyPath] = ()) -> None:
        self.data = data
        self.broken = set(broken)
        self._moved: dict[KeyPath, KeyPath] = {}
        self._kept: dict[KeyPath, list[int]] = {}

    def original(self, path: KeyPath) -> KeyPath:
        """Return the path in the text for a *path* in the repaired data."""
        if not self._moved and not self._kept:
            return path
        found: KeyPath = ()
        for depth, part in enumerate(path):
            kept = self._kept.get(path[:depth])
            if kept is not None and isinstance(part, int) and part < len(kept):
                found = (*found, kept[part])
            else:
                found = self._moved.get(path[: depth + 1], (*found, part))
        return found

    def is_broken(self, path: KeyPath) -> bool:
        """Report whether a *path* of the repaired data, or a table it is in, was reported before."""
        original = self.original(path)
        return any(original[:depth] in self.broken for depth in range(1, len(original) + 1))

    def has(self, path: KeyPath) -> bool:
        """Report whether the repaired data has a key at *path*."""
        table = self._container(path)
        return isinstance(table, dict) and path[-1] in table

    def value(self, path: KeyPath) -> object:
        """Return the value of the repaired data at *path*, None where there is none."""
        table, part = self._container(path), path[-1]
        if isinstance(table, list) and isinstance(part, int):
            return table[part] if part < len(table) else None
        return table.get(part) if isinstance(table, dict) else None

    def rename(self, path: KeyPath, key: str) -> bool:
        """Read the key at *path* as *key*; report whether that could be done.

        Where the table has that key too, and both are tables, the one is read into the other.
        """
        table, target = self._container(path), (*path[:-1], key)
        if not isinstance(table, dict) or path[-1] not in table:
            return False
        inner = table[path[-1]]
        if key not in table:
            self._moved[target] = self.original(path)
            table[key] = table.pop(path[-1])
            return True
        if not isinstance(inner, dict) or not isinstance(table[key], dict):
            return False
        for name in [name for name in inner if name not in table[key]]:
            self._moved[(*target, name)] = self.original((*path, name))
            table[key][name] = inner.pop(name)
        return False

    def empty(self, path: KeyPath) -> bool:
        """Make the agent or flow at *path* an empty table, so that its name stays known; report whether it is one."""
        if len(path) != 2 or path[0] not in {"agents", "flows"}:
            return False
        self.broken.add(self.original(path))
        self.data[str(path[0])][path[1]] = {}
        return True

    def drop(self, paths: Iterable[KeyPath]) -> None:
        """Take the values at *paths* out; an array that loses its last item goes with it."""
        dropped = set(paths)
        self.broken.update([self.original(path) for path in dropped])
        items: dict[KeyPath, set[int]] = {}
        for path in dropped:
            table = self._container(path)
            if isinstance(path[-1], int):
                items.setdefault(path[:-1], set()).add(path[-1])
            elif isinstance(table, dict):
                table.pop(path[-1], None)
        for path, numbers in items.items():
            self._drop_items(path, numbers)

    def _drop_items(self, path: KeyPath, numbers: set[int]) -> None:
        items = self._container((*path, 0))
        if not isinstance(items, list):
            return
        kept = self._kept.get(path, range(len(items)))
        self._kept[path] = [number for index, number in enumerate(kept) if index not in numbers]
        items[:] = [item for index, item in enumerate(items) if index not in numbers]
        if not items:
            self.drop([path])

    def _container(self, path: KeyPath) -> Any:
        found: Any = self.data
        for part in path[:-1]:
            is_item = isinstance(found, list) and isinstance(part, int) and part < len(found)
            if not is_item and not (isinstance(found, dict) and part in found):
                return None
            found = found[part]
        return found
