"""Schema files: JSON Schemas that a configuration names, read once for each configuration."""

from __future__ import annotations

import stat
from pathlib import Path

from agentflow.config.display import quoted
from agentflow.config.limits import LARGEST_FILE
from agentflow.config.source import reason_of
from agentflow.core.codec import loads
from agentflow.core.packing import MisfitError
from agentflow.core.values import Json, adopt_mapping
from agentflow.errors import InvalidValueError, SchemaFileError


def schema_in(folder: Path, name: str, known: dict[Path, dict[str, Json]]) -> dict[str, Json]:
    """Return the JSON object in a file, at most 256 KB.

    Args:
        folder: where a relative name begins.
        name: the file's name as it is written.
        known: the files that were read before; this one is added.

    Raises:
        SchemaFileError: it cannot be read, or holds something else.
    """
    file = folder / name
    if file not in known:
        known[file] = _object(name, _read(file, name))
    return known[file]


def _read(file: Path, name: str) -> bytes:
    hint = "name a JSON file; a relative name begins at the file that says so"
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise SchemaFileError(f"the schema {quoted(name)} is no regular file", hint=hint)
        with file.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        raise SchemaFileError(f"the schema {quoted(name)} cannot be read: {reason_of(error)}", hint=hint) from None
    if len(content) > LARGEST_FILE:
        raise SchemaFileError(f"the schema {quoted(name)} is larger than {LARGEST_FILE // 1024} KB", hint="describe less of the state")
    return content


def _object(name: str, content: bytes) -> dict[str, Json]:
    try:
        return adopt_mapping(loads(content.removeprefix(b"\xef\xbb\xbf")), "it")
    except (MisfitError, InvalidValueError) as error:
        raise SchemaFileError(f"the schema {quoted(name)} holds no JSON object: {error}", hint='write {"type": "object", …}') from None
