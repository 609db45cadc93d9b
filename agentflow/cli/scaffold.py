"""The files of a new project, as text."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass

from agentflow.cli.tables import toml_value

ROUNDS = 3  # after which a new project's loop agent says that it is done
_TAKEN = {"agent", "Event", "State", "Any"}


@dataclass(frozen=True)
class Blueprint:
    """What a new project is to be.

    `collaborative`, `sequential` and `loop_agent` name the agents that work side by side, one after another and again and
    again; those the mode does not use may be empty. The figures are seconds, a share from 0 to 1, and counts.
    """

    name: str
    mode: str
    collaborative: tuple[str, ...]
    sequential: tuple[str, ...]
    loop_agent: str
    max_iterations: int = 10
    timeout_s: float = 60
    failure_threshold: float = 0.5
    max_concurrency: int = 5
    routed: tuple[str, ...] = ()

    @property
    def agents(self) -> tuple[str, ...]:
        """All agents, each once."""
        loop = (self.loop_agent,) if self.loop_agent else ()
        return tuple(dict.fromkeys([*self.routed, *self.collaborative, *self.sequential, *loop]))

    @property
    def working(self) -> tuple[str, ...]:
        """The agents that an event without a target reaches."""
        chosen = {
            "route": self.agents[:1],
            "collaborative": self.collaborative,
            "sequential": self.sequential,
            "loop": (self.loop_agent,),
            "mixed": (*self.collaborative, *self.sequential),
        }
        return tuple(dict.fromkeys(chosen[self.mode]))

    def files(self) -> dict[str, str]:
        """Return the text of each file by its path in the project."""
        return {
            "agentflow.toml": self.config(),
            "handlers.py": self.handlers(),
            f"tests/test_{re.sub(r'[^A-Za-z0-9_]', '_', self.name)}.py": self.tests(),
            "README.md": self.readme(),
        }

    def config(self) -> str:
        """Return agentflow.toml."""
        lines = [
            "[agent_flow]",
            f"name = {toml_value(self.name)}",
            'version = "0.1.0"',
            'entrypoint = "handlers"  # handlers.py beside this file',
            "",
        ]
        others = "others have keys of their own: agentflow explain AF0201"
        lines += ["[orchestration]", f"mode = {toml_value(self.mode)}  # route, collaborative, sequential, loop or mixed; {others}"]
        lines += self._figures()
        for name in self.agents:
            header = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml_value(name)
            lines += ["", f"[agents.{header}]", f'role = "{name}"', 'description = ""']
        return "\n".join(lines) + "\n"

    def _figures(self) -> list[str]:
        """Return the lines of [orchestration] below the mode: what any of the first five modes needs."""
        lines = [f"timeout_seconds = {self.timeout_s:g}", f"max_iterations = {self.max_iterations}"]
        lines += [f"failure_threshold = {self.failure_threshold:g}", f"max_concurrency = {self.max_concurrency}"]
        return [
            *lines,
            "# The keys below are there for all of these five, so that changing the word above is enough.",
            "# `agentflow validate` warns (AF0290) of those that the mode of the moment does not use.",
            f"default_agent = {toml_value(self.agents[0])}  # route: for events that name no target",
            f"collaborative_agents = {toml_value(self.collaborative or self.agents)}  # collaborative and mixed: all at once",
            f"sequential_agents = {toml_value(self.sequential or self.agents)}  # sequential and mixed: one after another",
            f"loop_agent = {toml_value(self.loop_agent or self.agents[0])}  # loop: again and again",
        ]

    def handlers(self) -> str:
        """Return handlers.py: a function for each agent."""
        functions = _functions(self.agents)
        parts = [_HANDLERS_HEAD.format(name=self.name)]
        for name, function in functions.items():
            body = _LOOP_BODY.format(key=_key(name), rounds=ROUNDS) if name == self.loop_agent else _BODY.format(key=_key(name), name=name)
            parts.append(f'\n\n@agent("{name}")\nasync def {function}(event: Event, state: State) -> dict[str, Any]:\n{body}')
        return "".join(parts)

    def tests(self) -> str:
        """Return the tests, which need pytest and nothing else."""
        return _TESTS.format(name=self.name)

    def readme(self) -> str:
        """Return README.md."""
        return _README.format(name=self.name, mode=self.mode, agents=", ".join(self.working))


def _key(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def _functions(names: tuple[str, ...]) -> dict[str, str]:
    """Return the name of each agent's function: an identifier that nothing else has."""
    found: dict[str, str] = {}
    for name in names:
        function = _key(name)
        if function[0].isdigit() or keyword.iskeyword(function) or function in _TAKEN:
            function = f"agent_{function}"
        while function in found.values():
            function += "_"
        found[name] = function
    return found


_HANDLERS_HEAD = '''"""The agents of {name}. Each gets the event and the state, and returns what it found out."""

from __future__ import annotations

from typing import Any

from agentflow import Event, State, agent
'''

_BODY = '''    """Replace this by what {name} does."""
    return {{"{key}": f"{name} has seen {{', '.join(sorted(state)) or 'nothing yet'}}"}}
'''

_LOOP_BODY = '''    """Replace this by one round of work; `loop_complete` ends the loop before `max_iterations`."""
    rounds = state.get("{key}_rounds", 0) + 1
    return {{"{key}_rounds": rounds, "loop_complete": rounds >= {rounds}}}
'''

_TESTS = '''"""The workflow of {name}, run as a user would."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agentflow import Event, Runner

CONFIG = Path(__file__).parents[1] / "agentflow.toml"


def test_agents_answer() -> None:
    """An event without a target runs to its end in every mode, and whoever has worked has answered."""

    async def run():
        async with Runner.from_config(CONFIG) as runner:
            return await runner.run(Event(data={{"task": "try it"}}))

    result = asyncio.run(run())
    assert result.status == "completed", result.error
    assert result.outputs
    assert result.state["task"] == "try it"
    assert len(result.state) > 1  # the task, and what the agents have set
'''

_README = """# {name}

Agents in mode `{mode}`: {agents}. `agentflow.toml` says how they work together, `handlers.py` what each of them does.

```sh
agentflow run --set task="try it"    # run an event and print the result
agentflow validate                   # find every mistake of agentflow.toml
agentflow plan                       # what will run, and how often at most
agentflow visualize                  # the same as a Mermaid diagram
python -m pytest                     # the tests
```

Change the one word after `mode =` to let the agents work together in another way.
"""
