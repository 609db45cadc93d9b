"""Leases: which owners of this process are alive, and who holds what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Hold:
    owner: str
    epoch: int
    until: float


class Leases:
    """The leases of one process; all times are seconds of the event loop's clock.

    A store that only one process writes needs them in no file: whoever had the runs before this process began is dead.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._holds: dict[str, _Hold] = {}

    def renew(self, owner: str, lease_s: float, now: float) -> None:
        """Keep `owner` alive until `now + lease_s`."""
        self._until[owner] = now + lease_s

    def release(self, owner: str) -> None:
        """End the owner's lease and its holds."""
        self._until.pop(owner, None)
        for name in [name for name, hold in self._holds.items() if hold.owner == owner]:
            del self._holds[name]

    def living(self, now: float) -> frozenset[str]:
        """Return the owners whose lease goes on."""
        self._until = {owner: until for owner, until in self._until.items() if until > now}
        return frozenset(self._until)

    def is_held(self, name: str, owner: str, now: float) -> bool:
        """Say whether an owner other than `owner` holds `name`."""
        hold = self._holds.get(name)
        return hold is not None and hold.until > now and hold.owner != owner

    def prolong(self, name: str, owner: str, lease_s: float, now: float) -> int | None:
        """Prolong the owner's own hold and return its epoch; None when it has none that still lasts."""
        hold = self._holds.get(name)
        if hold is None or hold.owner != owner or hold.until <= now:
            return None
        hold.until = now + lease_s
        return hold.epoch

    def hold(self, name: str, owner: str, epoch: int, until: float) -> None:
        """Note that `owner` holds `name` under `epoch`."""
        self._holds[name] = _Hold(owner, epoch, until)
