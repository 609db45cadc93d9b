"""Cache: answers that serve other calls of the same agent with the same input, for a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

from agentflow.core.codec import canonical
from agentflow.core.packing import pack_patch, unpack_patch
from agentflow.core.state import Patch
from agentflow.core.values import Json, copy_json
from agentflow.engine.contracts import sources_of
from agentflow.engine.step import Step

MOST_ENTRIES = 1000


class Cache:
    """Keeps the last 1,000 answers of agents with a `cache`, in this process; the oldest unused ones go first.

    A call is the same as another when agent, version, event data and all of the state it sees are the same. So it costs what
    the state holds, and only calls that ask for it pay. `monotonic` gives the time: a wall clock that is set changes nothing.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._answers: OrderedDict[str, tuple[float, Json, str | None]] = OrderedDict()

    def recall(self, step: Step) -> Patch | None:
        """Return a fresh copy of the answer to a call that is the same as this one; None when there is none."""
        key = _identity(step)
        known = self._answers.get(key)
        if known is None or known[0] <= self._monotonic():
            step.cache_key = key
            return None
        self._answers.move_to_end(key)
        patch = unpack_patch(copy_json(known[1]))
        patch.route = known[2]
        return patch

    def keep(self, step: Step) -> None:
        """Keep what a step has answered, when it was looked up in vain; not what a fallback answered in its place."""
        policy, answer = step.call.policy, step.answered
        if not step.cache_key or policy is None or policy.cache_s is None or answer is None or step.failure is not None:
            return
        self._answers[step.cache_key] = self._monotonic() + policy.cache_s, copy_json(pack_patch(answer)), answer.route
        while len(self._answers) > MOST_ENTRIES:
            self._answers.popitem(last=False)


def _identity(step: Step) -> str:
    frame = step.frame
    assert frame is not None  # noqa: S101 - event hooks are not cached
    scope = frame.scope
    entries = {key: scope.lookup(key) for key in scope.keys()}  # noqa: SIM118 - a scope is no dict
    meta = {key: scope.lookup_meta(key) for key in scope.meta_keys()}
    injected = {} if step.injected is None else pack_patch(step.injected)
    version = str(step.run.program.agent_configs.get(step.agent.name, {}).get("version", ""))
    told = canonical([step.agent.name, version, step.input.data, entries, meta, injected, sources_of(step)])
    return blake2b(told.encode("utf-8", "replace"), digest_size=16).hexdigest()
