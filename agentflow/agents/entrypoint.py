"""Entrypoints: finding the Python that a configuration names, and nothing but that.

A module is looked for beside the file that names it, then in `runner.pythonpath`, then among installed packages; never in
the current directory as such. A file that anybody may write is refused.
"""

from __future__ import annotations

import grp
import hashlib
import importlib
import importlib.util
import pwd
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from agentflow.agents.function import MARK
from agentflow.errors import EntrypointError, RegistrationError, did_you_mean

_PART = r"[A-Za-z][A-Za-z0-9_]*"
_REFERENCE = re.compile(rf"({_PART}(?:\.{_PART})*)(?::({_PART}))?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where another process finds a function again.

    Attributes:
        module, name: the module, and the name in it, e.g. "tasks" and "Work.once".
        file: the module's file, None for one without.
        folder: where modules stand that the module may import; None when it is found like any installed one.
        is_named: whether the module was loaded under a name of its own, from its file.
    """

    module: str
    name: str
    file: str | None
    folder: str | None
    is_named: bool


class Finder:
    """Finds modules and functions for one configuration.

    Args:
        folders: where modules may stand, in this order; installed packages come last.
        warn: told of a file that a group may write.
        is_strict: refuse such a file, unless the group is its owner's own; a service does.
    """

    def __init__(self, folders: list[Path], warn: Callable[[str], None], *, is_strict: bool = False) -> None:
        self._folders = folders
        self._warn = warn
        self._is_strict = is_strict
        self._loaded: list[tuple[ModuleType, str, Path | None]] = []  # with the name it was asked for, and the folder it stood in

    def function(self, reference: str, folder: Path) -> Callable[..., Any]:
        """Return the function that `module:function` names.

        Raises:
            EntrypointError: the reference is malformed, or the module or the function cannot be had.
        """
        module, name = _split(reference)
        if name is None:
            raise EntrypointError(f"`{reference}` names no function", hint=f"write {module}:function")
        return self._attribute(self._module(module, folder), module, name)

    def entrypoint(self, reference: str, folder: Path) -> tuple[ModuleType, Callable[..., Any] | None]:
        """Return the module of an entrypoint, and its function where `:function` is given.

        Raises:
            EntrypointError: as `function`.
        """
        module, name = _split(reference)
        loaded = self._module(module, folder)
        return loaded, self._attribute(loaded, module, name) if name is not None else None

    def address_of(self, name: str, function: Callable[..., Any]) -> Address:
        """Return where another process finds the handler of agent `name`.

        Raises:
            RegistrationError: it is bound to no name of a module, as a lambda or a function inside another one is, or it was
                defined in the script that was started.
        """
        own = sys.modules.get(str(getattr(function, "__module__", None)))
        modules = [*([own] if own is not None else []), *(module for module, _, _ in self._loaded)]
        for module in modules:
            attribute = _name_in(module, function)
            if attribute is not None and module.__name__ != "__main__":
                return self._address(module, attribute)
        told = getattr(function, "__qualname__", None) or repr(function)
        where = "is part of the script that was started" if own is sys.modules["__main__"] else "is bound to no name of a module"
        raise RegistrationError(
            f'agent `{name}` has isolation = "process", but another process cannot import its handler: {told} {where}',
            hint="define it with `def` at the top of a module of its own",
        )

    def _address(self, module: ModuleType, attribute: str) -> Address:
        file = getattr(module, "__file__", None)
        for loaded, name, folder in self._loaded:
            if loaded is module and folder is not None:
                return Address(name, attribute, file, str(folder), is_named=module.__name__ != name)
        folders = [folder for _, _, folder in self._loaded if folder is not None and file is not None]
        beside = next((str(folder) for folder in folders if _stands_in(folder, module.__name__, str(file))), None)
        return Address(module.__name__, attribute, file, beside, is_named=False)

    def at(self, address: Address) -> Callable[..., Any]:
        """Return the function at an address that another process gave.

        Raises:
            EntrypointError: it cannot be imported here, or is another file's here.
        """
        folder = Path(address.folder) if address.folder is not None else None
        if address.is_named and address.file is not None and folder is not None:
            module = self._from_file(address.module, Path(address.file), folder)
        else:
            with nullcontext() if folder is None else _beside(folder):
                module = importlib.import_module(address.module)
            if getattr(module, "__file__", None) != address.file:
                told = f"module `{address.module}` is {getattr(module, '__file__', None)} in a process of its own, not {address.file}"
                raise EntrypointError(told, hint="rename the one of them that is yours")
        found: Any = module
        for part in address.name.split("."):
            found = getattr(found, part, None)
        if not callable(found):
            raise EntrypointError(f"module `{address.module}` has no `{address.name}` in a process of its own")
        return found  # type: ignore[no-any-return]

    def _attribute(self, module: ModuleType, name: str, attribute: str) -> Callable[..., Any]:
        found = getattr(module, attribute, None)
        if found is None:
            public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise EntrypointError(f"module `{name}` has no `{attribute}`", hint=did_you_mean(attribute, public))
        if not callable(found):
            raise EntrypointError(f"`{name}:{attribute}` is {type(found).__name__}, not a function")
        return found  # type: ignore[no-any-return]

    def _module(self, name: str, folder: Path) -> ModuleType:
        for place in [folder, *self._folders]:
            path = place.joinpath(*name.split("."))
            for file in (path.with_suffix(".py"), path / "__init__.py"):
                if file.is_file():
                    module = self._from_file(name, file, place)
                    self._loaded.append((module, name, place))
                    return module
        module = self._installed(name, folder)
        self._loaded.append((module, name, None))
        return module

    def _from_file(self, name: str, file: Path, folder: Path) -> ModuleType:
        file = file.resolve()
        self._check_mode(file)
        known = sys.modules.get(name)
        if known is not None and getattr(known, "__file__", None) == str(file):
            return known
        # Two configurations may each have a `handlers.py`: the module's own name carries where it stands.
        key = f"agentflow_entry_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}_{name.replace('.', '_')}"
        if key in sys.modules:
            return sys.modules[key]
        spec = importlib.util.spec_from_file_location(key, file)
        if spec is None or spec.loader is None:
            raise EntrypointError(f"{file} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[key] = module
        try:
            with _beside(folder):
                spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[key]
            told = f"importing `{name}` from {file} failed: {type(error).__name__}: {error}"
            hint = f"run it by itself: python {file.name}"
            if "relative import" in str(error):
                hint = "import what stands beside it by its full name, e.g. from package.module import name"
            raise EntrypointError(told, hint=hint) from error
        return module

    def _installed(self, name: str, folder: Path) -> ModuleType:
        here = {"", ".", str(Path.cwd())}
        kept = list(sys.path)
        sys.path[:] = [place for place in kept if place not in here or "site-packages" in place]
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and not (name == error.name or name.startswith(f"{error.name}.")):
                raise EntrypointError(f"importing `{name}` failed: {error}", hint=f"install {error.name}") from error
            beside = sorted(file.stem for file in _python_files(folder))
            hint = did_you_mean(name, beside) if beside else f"create {folder / (name + '.py')}"
            raise EntrypointError(f"no module `{name}` beside {folder} nor installed", hint=hint) from None
        except Exception as error:
            raise EntrypointError(f"importing `{name}` failed: {type(error).__name__}: {error}") from error
        finally:
            sys.path[:] = [*kept, *(place for place in sys.path if place not in kept)]

    def _check_mode(self, file: Path) -> None:
        found = file.stat()
        if found.st_mode & stat.S_IWOTH:
            raise EntrypointError(f"{file} can be written by anybody", hint=f"chmod o-w {file}")
        if found.st_mode & stat.S_IWGRP:
            if self._is_strict and not _is_private(found.st_uid, found.st_gid):
                raise EntrypointError(f"{file} can be written by its group, which a service does not run", hint=f"chmod g-w {file}")
            self._warn(f"{file} can be written by its group")


def _is_private(user: int, group: int) -> bool:
    """Say whether a group is a user's own: it has that user's name, and nobody else in it."""
    try:
        name, entry = pwd.getpwuid(user).pw_name, grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == name and set(entry.gr_mem) <= {name}


@contextmanager
def _beside(folder: Path) -> Iterator[None]:
    """Let a module import what stands beside it, also when another project has imported modules of the same names."""
    others = {
        name: module
        for name, module in sys.modules.items()
        if "." not in name and (file := getattr(module, "__file__", None)) and Path(file).parent != folder and _has_module(folder, name)
    }
    for name in others:
        del sys.modules[name]
    place = str(folder)
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
        if place not in sys.path:
            sys.path.append(place)  # for what its functions import when they are called
        sys.modules.update(others)


def _name_in(module: ModuleType, function: object) -> str | None:
    """Return the name by which a module has a function, dotted where a class of the module has it."""
    told = getattr(function, "__qualname__", None)
    if isinstance(told, str):
        found: object = module
        for part in told.split("."):
            found = getattr(found, part, None)
        if found is function:
            return told
    return next((name for name, value in list(vars(module).items()) if value is function), None)


def _stands_in(folder: Path, name: str, file: str) -> bool:
    path = folder.joinpath(*name.split("."))
    return Path(file) in (path.with_suffix(".py"), path / "__init__.py")


def _has_module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()


def marked(module: ModuleType) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the functions of a module that carry `@agent`, with the agent's name, in the order they stand there."""
    for value in list(vars(module).values()):
        name = getattr(value, MARK, None)
        if isinstance(name, str) and callable(value) and getattr(value, "__module__", None) == module.__name__:
            yield name, value


def _split(reference: str) -> tuple[str, str | None]:
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise EntrypointError(f"`{reference}` is no module:function", hint='e.g. "handlers:register"; no paths, no private names')
    return found[1], found[2]


def _python_files(folder: Path) -> list[Path]:
    try:
        return list(folder.glob("*.py"))
    except OSError:
        return []
