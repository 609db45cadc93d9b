"""Conditions in CEL: compiled once, their names checked at load, evaluated on just the values they name.

The language is the Common Expression Language (https://cel.dev). A condition may ask about four roots: `state` (data),
`meta` (the state's metadata), `event` (id, target, data, metadata, session_id) and `outputs` (by agent or flow name).
Converting a whole state for each evaluation would cost milliseconds, so a scanner of our own collects the paths that
an expression names, and only those reach the evaluator.
"""

from __future__ import annotations

import re

import cel

from agentflow.core.plan import Facts
from agentflow.core.state import MISSING
from agentflow.errors import RuleError, UnknownNameError, did_you_mean

ROOTS = ("state", "meta", "event", "outputs")
EVENT_FIELDS = ("id", "target", "data", "metadata", "session_id")
MAX_CHARS = 4096
MAX_MACROS = 2  # each multiplies the time of what it holds, and nothing can interrupt an evaluation

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<string>[rRbB]{0,2}(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<number>\d[\w.]*(?:[eE][+-]?\d+)?)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
_BUILDERS = frozenset({"filter", "map"})  # those that give a list
_SYNTAX_PLACE = re.compile(r"<input>:\d+:(\d+): (.*)")


class Rule:
    """One compiled condition.

    Args:
        source: the CEL expression, at most 4,096 characters.

    Raises:
        RuleError: it does not parse.
        UnknownNameError: it names something that no condition can ask about.
    """

    __slots__ = ("_program", "paths", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        if len(source) > MAX_CHARS:
            raise RuleError(f"the expression has {len(source):,} characters", hint=f"at most {MAX_CHARS:,} are read")
        self._program = _compile(source)
        tokens = _tokens(source)
        self.paths = _shortest(_paths(tokens))
        bound = _bound(tokens)
        macros = sum(text in _MACROS and tokens[at + 1][1] == "(" for at, (_, text) in enumerate(tokens[:-1]))
        if macros > MAX_MACROS:
            raise RuleError(
                f"the expression has {macros} of {', '.join(sorted(_MACROS))}", hint=f"at most {MAX_MACROS} keep its time bounded"
            )
        if (inner := _built_again(tokens)) is not None:
            hint = "it would be built again for each item, and nothing can interrupt that; ask with exists, or keep it in the state"
            raise RuleError(f"`{inner}` stands inside `map` in `{source}`", hint=hint)
        for name in self._program.variables():
            if name not in ROOTS and name not in bound:
                hint = f"write state.{name} for a key of the state" if not _is_near(name) else did_you_mean(name, ROOTS)
                raise UnknownNameError(f"unknown name `{name}` in `{source}`", hint=hint)
        for root, path in self.paths:
            if root == "event" and path and path[0] not in EVENT_FIELDS:
                raise UnknownNameError(f"an event has no `{path[0]}` in `{source}`", hint=did_you_mean(path[0], EVENT_FIELDS))

    def holds(self, facts: Facts) -> bool:
        """Evaluate the condition on the facts of a run.

        Raises:
            RuleError: a value it needs is missing, or the answer is not true or false.
        """
        activation: dict[str, object] = {root: {} for root in ROOTS}
        absent: list[str] = []
        for root, path in self.paths:
            value = facts.fact(root, path)
            if value is MISSING:
                absent.append(".".join((root, *path)))
                _place_known_part(activation, root, path, facts)
            else:
                _place(activation, (root, *path), value)
        try:
            answer = self._program.execute(activation)
        except Exception as error:
            what = f"`{', '.join(absent)}` is not there" if absent else _first_line(error)
            raise RuleError(f"`{self.source}` has no answer: {what}", hint="guard it with has(...), or set the key before") from error
        if type(answer) is not bool:
            raise RuleError(f"`{self.source}` is {type(answer).__name__}, not true or false", hint="compare it with something")
        return answer

    def __repr__(self) -> str:
        return f"Rule({self.source!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rule) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)


def _compile(source: str) -> cel.Program:
    try:
        return cel.compile(source)
    except Exception as error:  # noqa: BLE001 - the library raises kinds of its own choosing, its own panics included
        found = _SYNTAX_PLACE.search(str(error))
        what = f"at character {found[1]}: {found[2].split(' expecting ')[0]}" if found else _first_line(error)
        raise RuleError(f"cannot read `{source}`: {what}", hint='write CEL, e.g. state.score >= 0.9 && event.data.kind == "a"') from None


def _is_near(name: str) -> bool:
    return did_you_mean(name, ROOTS).startswith("did you mean")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _place(tree: dict[str, object], path: tuple[str, ...], value: object) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})  # type: ignore[assignment] # the paths have no prefixes among them
    tree[path[-1]] = value


def _place_known_part(tree: dict[str, object], root: str, path: tuple[str, ...], facts: Facts) -> None:
    """Place what there is of a path whose end is missing, so that `has(state.a.b)` finds `state.a`."""
    for length in range(len(path) - 1, 0, -1):
        value = facts.fact(root, path[:length])
        if value is not MISSING:
            for part in (root, *path[: length - 1]):
                tree = tree.setdefault(part, {})  # type: ignore[assignment]
            tree.setdefault(path[length - 1], {} if isinstance(value, dict) else value)
            return


def _tokens(source: str) -> list[tuple[str | None, str]]:
    tokens = [(found.lastgroup, found.group()) for found in _TOKEN.finditer(source) if found.lastgroup != "space"]
    return [*tokens, ("mark", "")]


def _built_again(tokens: list[tuple[str | None, str]]) -> str | None:
    """Return the first macro that builds a list for each item of a list that is being built; None for none."""
    open_macros: list[str] = []
    for at, (_, text) in enumerate(tokens[:-1]):
        if text == "(":
            open_macros.append(tokens[at - 1][1] if at else "")
        elif text == ")" and open_macros:
            open_macros.pop()
        elif text in _BUILDERS and tokens[at + 1][1] == "(" and "map" in open_macros:
            return text
    return None


def _bound(tokens: list[tuple[str | None, str]]) -> set[str]:
    """Collect the variables that macros bind, e.g. `i` in `state.items.exists(i, i > 1)`."""
    return {
        tokens[at + 2][1]
        for at, (_, text) in enumerate(tokens[:-3])
        if text in _MACROS and tokens[at + 1][1] == "(" and tokens[at + 3][1] == ","
    }


def _paths(tokens: list[tuple[str | None, str]]) -> set[tuple[str, tuple[str, ...]]]:
    """Collect `root.a.b` and `root["a-b"]` paths; one that ends in a method call stops before the method's name."""
    return {
        (text, _tail(tokens, at + 1))
        for at, (kind, text) in enumerate(tokens)
        if kind == "name" and text in ROOTS and (at == 0 or tokens[at - 1][1] != ".")
    }


def _shortest(paths: set[tuple[str, tuple[str, ...]]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Drop a path below another one: its value comes with the shorter path's."""
    return tuple(sorted((root, path) for root, path in paths if not any((root, path[:cut]) in paths for cut in range(len(path)))))


def _tail(tokens: list[tuple[str | None, str]], at: int) -> tuple[str, ...]:
    path: list[str] = []
    while at + 1 < len(tokens):
        if tokens[at][1] == "." and tokens[at + 1][0] == "name":
            if tokens[min(at + 2, len(tokens) - 1)][1] == "(":
                break
            path.append(tokens[at + 1][1])
            at += 2
        elif tokens[at][1] == "[" and tokens[at + 1][0] == "string" and tokens[min(at + 2, len(tokens) - 1)][1] == "]":
            path.append(_unquoted(tokens[at + 1][1]))
            at += 3
        else:
            break
    return tuple(path)


def _unquoted(text: str) -> str:
    """Return what a CEL string literal says, asking CEL itself so that its escapes hold."""
    return str(cel.compile(text).execute({}))
