"""Row: a value that also reads as the JSON object it is shown as."""

from __future__ import annotations

from abc import ABC, abstractmethod

from agentflow.core.values import Json


class Row(ABC):
    """Gives what has a `to_dict` its keys too, so that `result.error["code"]` is what `--json` prints."""

    __slots__ = ()

    @abstractmethod
    def to_dict(self) -> dict[str, Json]:
        """Return the value as a JSON object."""

    def __getitem__(self, key: str) -> Json:
        """Return one entry of the JSON object.

        Raises:
            KeyError: there is no such entry.
        """
        return self.to_dict()[key]
