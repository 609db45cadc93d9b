"""The journal that a command is about: found from its options, opened for reading beside whoever writes it, or for writing."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.sources import FILE, config_file
from agentflow.config.journal import BESIDE_THE_FILE, JournalChoice
from agentflow.core.merge import Combine
from agentflow.engine.history import History
from agentflow.errors import EntrypointError
from agentflow.ports import Store


@dataclass(frozen=True)
class Place:
    """What the options say of the journal: the configuration's file, and the journal in the place of the configured one."""

    config: Path | None = None
    journal: Path | None = None

    def found(self) -> Found:
        """Return the journal.

        Raises:
            ConfigError, ConfigNotFoundError: the configuration cannot be read; without one, `--journal` says all.
        """
        if self.journal is not None and self.config is None and not Path(FILE).exists():
            return Found(JournalChoice(self.journal.absolute(), "full", 100, 30), None)
        project = app.load(config_file(self.config))
        choice = project.journal(BESIDE_THE_FILE)
        if self.journal is not None:
            durability = "full" if choice.path is None else choice.durability
            choice = replace(choice, path=self.journal.absolute(), durability=durability)
        return Found(choice, project)


@dataclass(frozen=True)
class Found:
    """A journal, and the configuration that it belongs to, where there is one."""

    choice: JournalChoice
    project: app.Project | None

    @asynccontextmanager
    async def opened(self, *, is_reader: bool = True) -> AsyncIterator[tuple[Store, History]]:
        """Open the journal; for reading it takes no lock and changes nothing.

        Raises:
            StoreError: it cannot be used as it is.
        """
        store = app.store_of(self.choice, is_reader=is_reader)
        await store.open()
        try:
            yield store, History(store, app.compile_rule, self._function, app.compile_schema)
        finally:
            await store.close()

    def _function(self, reference: str) -> Combine:
        if self.project is None:
            raise EntrypointError(f"`{reference}` merges a flow's patches, and no configuration says where it is", hint="add --config FILE")
        finder = self.project.finder(lambda text: terminal.note(terminal.safe(text)))
        with redirect_stdout(sys.stderr):  # importing it runs user code
            return finder.function(reference, self.project.folder)
