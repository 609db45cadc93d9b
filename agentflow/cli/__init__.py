"""The command line. Nothing heavy is imported before a command needs it, so that `--help` and `version` answer at once."""

from __future__ import annotations

from collections.abc import Sequence

from agentflow.cli import terminal
from agentflow.cli.exits import Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never prints a traceback unless `--debug` is among the arguments.

    Args:
        arguments: the words after the program's name; None takes those of the process.
    """
    words = terminal.words() if arguments is None else list(arguments)
    if not terminal.prepare():
        return Exit.FAILED
    try:
        code = _run(words)
        terminal.flush()
    except BrokenPipeError:
        terminal.close_quietly()
        return Exit.FAILED
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - whatever it is, a person gets one line and not a traceback
        return terminal.show_error(error, is_debug="--debug" in words)
    return code


def _run(words: list[str]) -> int:
    if words in (["version"], ["--version"]):  # before typer is imported
        print_version()
        return Exit.DONE
    from agentflow.cli.commands import command

    _refuse_nul(words)
    try:
        command().main(words, prog_name="agentflow")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else Exit.DONE
    return Exit.DONE


def _refuse_nul(words: list[str]) -> None:
    """Refuse words that no operating system hands over, but a caller from Python may: they fail where a file is looked for."""
    bad = next((word for word in words if "\0" in word), None)
    if bad is not None:
        from agentflow.cli.usage import UsageError
        from agentflow.config.display import quoted

        raise UsageError(f"the argument {quoted(bad)} has a NUL in it", hint="take it out; no name of a file has one")


def print_version() -> None:
    """Print the version of the installed package."""
    from importlib.metadata import version

    terminal.out(version("agentflow"))
