"""What goes wrong with stores and journals."""

from __future__ import annotations

from agentflow.errors.base import AgentflowError


class StoreError(AgentflowError):
    """A journal cannot be opened or used as it is: its folder, its permissions or its settings do not allow it."""

    code = "AF0701"


class StoreLockedError(StoreError):
    """Another process has the journal open for writing; `pid` names it and `control` is where it takes commands ("": nowhere)."""

    code = "AF0702"

    def __init__(self, path: str, *, pid: int | None, control: str = "") -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"{path} is in use by {who}", hint="end it first, or take another journal with --journal PATH")
        self.pid, self.control = pid, control


class StoreVersionError(StoreError):
    """A journal was written by another release: `found` and `known` are the versions of its schema."""

    code = "AF0703"

    def __init__(self, path: str, *, found: int, known: int) -> None:
        hint = "install a newer agentflow" if found > known else "open it once for writing, e.g. with `agentflow journal migrate`"
        super().__init__(f"{path} has schema {found}, this release knows schema {known}", hint=hint)
        self.found, self.known = found, known


class StoreDamagedError(StoreError):
    """A part of a journal cannot be read; `run_id` is the run that is hit, "" when it is the journal as a whole."""

    code = "AF0704"

    def __init__(self, message: str, *, run_id: str = "", hint: str = "restore a backup; the other runs go on") -> None:
        super().__init__(message, hint=hint)
        self.run_id = run_id


class StoreMissingError(StoreError):
    """A journal is gone although its marker, its lock or its log is still there. It is never started empty."""

    code = "AF0705"


class StoreForeignError(StoreError):
    """A file at the journal's place is no journal of agentflow."""

    code = "AF0706"


class FencedError(StoreError):
    """An append was refused: the run was taken by another owner, or has moved on. Stop working on it."""

    code = "AF0707"

    def __init__(self, run_id: str, message: str) -> None:
        super().__init__(f"run {run_id}: {message}", hint="another owner goes on with it; start nothing more for it here")
        self.run_id = run_id


class DuplicateEventError(StoreError):
    """An event's id is known: `run_id` is its run, and `is_same` says whether it is the same event."""

    code = "AF0708"

    def __init__(self, event_id: str, *, run_id: str, is_same: bool) -> None:
        hint = "" if is_same else "give another event another id"
        what = "has a run" if is_same else "was another event's"
        super().__init__(f"event id {event_id!r} {what}: {run_id}", hint=hint)
        self.run_id, self.is_same = run_id, is_same


class StorageError(StoreError):
    """Writing or reading a journal failed; with `is_unknown` nobody knows yet whether the append is in it."""

    code = "AF0709"

    def __init__(self, message: str, *, is_unknown: bool = False, hint: str = "") -> None:
        super().__init__(message, hint=hint or ("emit again under the same event id" if is_unknown else ""))
        self.is_unknown = is_unknown


class StorageFullError(StorageError):
    """There is no room left for the journal. Nothing of the append was written, and later ones try again."""

    code = "AF0710"


class JournalDamagedError(AgentflowError):
    """A run's journal does not say what a journal can say: the record `seq` (None: the plan or the snapshot) of `run_id`."""

    code = "AF0720"

    def __init__(self, run_id: str, seq: int | None, message: str) -> None:
        place = f"run {run_id}, record {seq}" if seq is not None else f"run {run_id}" if run_id else "a plan"
        super().__init__(f"{place}: {message}", hint="restore a backup; the other runs go on")
        self.run_id = run_id
        self.seq = seq


class JournalVersionError(AgentflowError):
    """A record, snapshot or plan was written by a later release than this one."""

    code = "AF0721"

    def __init__(self, run_id: str, seq: int | None, found: str) -> None:
        place = f"run {run_id}, record {seq}" if seq is not None else f"run {run_id}" if run_id else "a plan"
        super().__init__(f"{place}: this release does not know {found}", hint="continue it with the release that wrote it, or a later one")
        self.run_id = run_id
        self.seq = seq
