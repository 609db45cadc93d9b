"""Where a command's configuration is."""

from __future__ import annotations

import re
from pathlib import Path

from agentflow.cli.usage import ConfigNotFoundError, UsageError
from agentflow.config.display import quoted
from agentflow.config.source import reason_of
from agentflow.errors import did_you_mean

FILE = "agentflow.toml"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def config_file(given: Path | None) -> Path:
    """Return the configuration's file: the one given, the one in the folder given, or `agentflow.toml` here.

    In a folder without an `agentflow.toml` it is `$ENVIRONMENT.toml`, by default `development.toml`; ENVIRONMENT may also
    stand in the folder's `.env`.

    Raises:
        ConfigNotFoundError: there is none.
    """
    if given is None:
        if not Path(FILE).exists():
            raise ConfigNotFoundError(
                f"there is no {FILE} in this folder", hint="name a file, or make a project with `agentflow create NAME`"
            )
        return Path(FILE)
    try:
        return _file_in(given) if given.is_dir() else given
    except (OSError, ValueError) as error:
        hint = "check the name and the permissions of the folder and its .env"
        raise ConfigNotFoundError(f"{quoted(given)} cannot be read: {reason_of(error)}", hint=hint) from None


def _file_in(folder: Path) -> Path:
    if (folder / FILE).exists():
        return folder / FILE
    from agentflow.cli.deployment import environment_of

    environment = environment_of(folder)
    file = folder / f"{environment}.toml"
    if _NAME.fullmatch(environment) and file.exists():
        return file
    known = [path.stem for path in folder.glob("*.toml")]
    raise ConfigNotFoundError(
        f"there is no {FILE} and no {quoted(f'{environment}.toml')} in {folder}",
        hint=f"set ENVIRONMENT; {did_you_mean(environment, known)}",
    )


def pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """Return `KEY=VALUE` words as a mapping, in their order.

    Raises:
        UsageError: one has no `=` or no key.
    """
    found: dict[str, str] = {}
    for word in given or ():
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise UsageError(f"{option} {word!r} is not KEY=VALUE", hint=f"e.g. {option} name=value")
        found[key] = value
    return found
