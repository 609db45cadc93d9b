"""Data checked against the models: every mistake told, what is wrong set aside, the rest made a Config."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agentflow.config.advice import conversion, reference_advice
from agentflow.config.diagnostics import Diagnostic
from agentflow.config.display import KeyPath, dotted, quoted
from agentflow.config.lookalike import character_name, is_unusual
from agentflow.config.model import FUNCTION, MODULE, Config, Fault, FlowConfig, validate
from agentflow.config.repairs import Repairs
from agentflow.config.shape import shape_at
from agentflow.config.unknown import Guesses, closest

MOST_ROUNDS = 8
MOST_DIAGNOSTICS = 500
NAME_KEY = "[key]"
NAMES = "names are 1 to 64 of: letters A-Z a-z, digits, `_`, `-`, `.`"

_TYPE_NAMES = {bool: "a boolean", int: "an integer", float: "a float", str: "a string"}
_TYPE_NAMES |= {list: "an array", dict: "a table"}
_WANTED = {"string_type": "a string", "int_type": "an integer", "float_type": "a number", "bool_type": "true or false"}
_BOUNDS = {
    "greater_than": "greater than",
    "greater_than_equal": "at least",
    "less_than_equal": "at most",
}


def check(repairs: Repairs, written: Mapping[KeyPath, str]) -> tuple[Config | None, list[Diagnostic]]:
    """Return the best Config that the data allows, and all that is wrong with its shape.

    The paths of the diagnostics are those of the text. *written* holds the values that had variables in
    them, as the text has them: a message shows those, since a variable may hold a secret.
    """
    found: list[Diagnostic] = []
    guesses = Guesses()
    for _ in range(MOST_ROUNDS):
        outcome = validate(repairs.data)
        if isinstance(outcome, Config):
            return outcome, [*found, *_contradictions(outcome, repairs)]
        dropped = {_array_of(_dropped(fault)) for fault in outcome[MOST_DIAGNOSTICS:]}
        if dropped:
            first = repairs.original(outcome[MOST_DIAGNOSTICS].path)
            found.append(Diagnostic("AF0100", f"{len(outcome) - MOST_DIAGNOSTICS} more mistakes are not listed", first, "key"))
        # Unknown keys first: one may be a misspelling of a key that is missing.
        for fault in sorted(outcome[:MOST_DIAGNOSTICS], key=lambda fault: fault.kind != "extra_forbidden"):
            text = written.get(repairs.original(fault.path)) if isinstance(fault.value, str) else None
            found.extend(_told(fault if text is None else fault._replace(value=text), repairs, guesses, dropped))
        repairs.drop(dropped)
    return None, found


def _dropped(fault: Fault) -> KeyPath:
    """Return what must go for the rest to be valid: for a missing key the table that lacks it."""
    is_name = fault.path[-1] == NAME_KEY and fault.kind.startswith("string_")
    return fault.path[:-1] if fault.kind == "missing" or is_name else fault.path


def _array_of(path: KeyPath) -> KeyPath:
    """Return the outermost array that *path* goes through, else *path*: among this many mistakes no single item is saved."""
    first = next((at for at, part in enumerate(path) if isinstance(part, int)), len(path))
    return path[:first]


def _told(fault: Fault, repairs: Repairs, guesses: Guesses, dropped: set[KeyPath]) -> Iterator[Diagnostic]:
    """Yield what to say of *fault*, and note what to drop for it."""
    path = fault.path
    if fault.kind == "extra_forbidden":
        is_table = isinstance(fault.value, dict | list)
        diagnostic, meant = guesses.diagnose(path, repairs.original(path), is_table=is_table)
        if not (meant and repairs.rename(path, meant)):
            dropped.add(path)
        yield diagnostic
        return
    if fault.kind == "missing" and repairs.has(path):
        return
    if not (fault.kind == "model_type" and repairs.empty(path)):
        dropped.add(_dropped(fault))
    if fault.kind == "missing":
        if not repairs.is_broken(path):
            yield _missing(repairs.original(path))
    elif _dropped(fault) != path:
        yield _bad_name(repairs.original(path[:-1]))
    else:
        yield _refused(fault, repairs.original(path))


def _missing(path: KeyPath) -> Diagnostic:
    key, table = path[-1], dotted([part for part in path[:-1] if isinstance(part, str)])
    return Diagnostic("AF0105", f"missing key {quoted(key)} in [{table}]", path, "key", f"add {key} = ...")


def _bad_name(path: KeyPath) -> Diagnostic:
    name = str(path[-1])
    strange = next((char for char in name if is_unusual(char)), "")
    reason = f" has {character_name(strange)}" if strange else " is not a valid name"
    return Diagnostic("AF0104", f"{quoted(name)}{reason}", path, "key", NAMES)


def _refused(fault: Fault, path: KeyPath) -> Diagnostic:
    """Return the diagnostic for a value of the wrong type, or out of bounds."""
    shape = shape_at(fault.path)
    name = quoted(path[-1] if isinstance(path[-1], str) else dotted(path))
    if fault.kind.startswith("AF"):
        return _custom(fault, path, name)
    if fault.kind in {FUNCTION, MODULE}:
        advice = reference_advice(str(fault.value), may_lack_function=fault.kind == MODULE)
        return Diagnostic("AF0104", f"{name} = {quoted(fault.value)} {fault.message}", path, help=advice)
    if fault.kind == "literal_error" and isinstance(fault.value, str):
        return _not_one_of(fault, path, name)
    if fault.kind == "string_pattern_mismatch":
        return Diagnostic("AF0104", f"{name} = {quoted(fault.value)} is not a valid name", path, help=NAMES)
    if fault.kind in _BOUNDS:
        message = f"{name} must be {_BOUNDS[fault.kind]} {_number(fault.bound)}, not {_number(fault.value)}"
        return Diagnostic("AF0104", message, path)
    if fault.kind == "finite_number":
        return Diagnostic("AF0104", f"{name} must be a finite number", path)
    if fault.kind == "float_type" and type(fault.value) is int:
        return Diagnostic("AF0104", f"{name} is too large", path)
    has_forms = shape is not None and bool(shape.forms)
    wanted = "" if has_forms else _WANTED.get(fault.kind, "")
    wanted = wanted or (shape.noun if shape else "another type")
    if fault.kind == "dict_type" and shape is not None and shape.kind == "open":
        wanted = "a table"
    message = f"{name} must be {wanted}, not {_type_name(fault.value)}"
    return Diagnostic("AF0103", message, path, help=conversion(fault.value, wanted, str(path[-1])))


def _custom(fault: Fault, path: KeyPath, name: str) -> Diagnostic:
    if fault.kind == "AF0117":
        advice = 'keep it out of the file: { env = "NAME_OF_VARIABLE" } or { file = "path" }'
        return Diagnostic(fault.kind, f"{name} {fault.message}", path, help=advice)
    return Diagnostic(fault.kind, f"{name} {fault.message}", path, help=fault.advice)


def _not_one_of(fault: Fault, path: KeyPath, name: str) -> Diagnostic:
    allowed = [word.strip("' ") for word in str(fault.bound).replace(" or ", ", ").split(",")]
    meant = closest(str(fault.value), allowed)
    advice = f"did you mean {quoted(meant)}?" if meant else ""
    message = f"{name} must be one of {', '.join(allowed)}, not {quoted(fault.value)}"
    return Diagnostic("AF0104", message, path, help=advice)


def _number(value: object) -> str:
    return quoted(value).strip("`") if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else ""


def _type_name(value: object) -> str:
    return _TYPE_NAMES.get(type(value), "a date or time")


def _contradictions(config: Config, repairs: Repairs) -> Iterator[Diagnostic]:
    """Yield where one key says what another one rules out."""
    yield from _retries_said_twice(config, repairs)
    yield from _approvals_without_need(config, repairs)
    yield from _durability_without_journal(config, repairs)
    yield from _pools_without_room(config, repairs)
    yield from _waits_for_nothing(config, repairs)
    yield from _joins_judged_twice(config, repairs)
    yield from _policies_without_use(config, repairs)
    yield from _sessions_of_nobody(config, repairs)
    yield from _schedules_that_contradict(config, repairs)
    yield from _schedules_for_nobody(config, repairs)


def _flows(config: Config) -> dict[KeyPath, FlowConfig]:
    return {("orchestration",): config.orchestration, **{("flows", name): flow for name, flow in config.flows.items()}}


def _retries_said_twice(config: Config, repairs: Repairs) -> Iterator[Diagnostic]:
    for path, flow in _flows(config).items():
        retries = flow.retry.max_retries if flow.retry else None
        if retries is None or "retry_attempts" not in flow.given or retries == flow.retry_attempts:
            continue
        message = f"`max_retries` is {retries}, but `retry_attempts` is {flow.retry_attempts}"
        where = repairs.original((*path, "retry", "max_retries"))
        yield Diagnostic("AF0116", message, where, help="give one of them, or the same number")


def _approvals_without_need(config: Config, repairs: Repairs) -> Iterator[Diagnostic]:
    """Yield each time limit of an approval that no step waits for: a mistake, unless the approval was switched off in so many words."""
    asking = {step.agent for flow in _flows(config).values() for step in flow.steps if step.requires_approval}
    for name, agent in config.agents.items():
        path: KeyPath = ("agents", name)
        is_told = agent.requires_approval or name in asking or repairs.is_broken((*path, "requires_approval"))
        if is_told or "approval_timeout_seconds" not in agent.given:
            continue
        where = repairs.original((*path, "approval_timeout_seconds"))
        if "requires_approval" in agent.given:
            message = f"`approval_timeout_seconds` is not used: agent {quoted(name)} needs no approval"
            yield Diagnostic("AF0191", message, where, "key", "it counts once requires_approval is true", "warning")
        else:
            message = f"agent {quoted(name)} has `approval_timeout_seconds`, but needs no approval"
            yield Diagnostic("AF0121", message, where, "key", "add requires_approval = true, or take it out")


def _durability_without_journal(config: Config, repairs: Repairs) -> Iterator[Diagnostic]:
    """Yield the durability that the journal's url cannot give."""
    url, durability = config.journal.url, config.journal.durability
    if url is None or durability is None or (url == "memory:") == (durability == "none"):
        return
    where = repairs.original(("journal", "durability"))
    if url == "memory:":
        message = f"`durability` = `{durability}` needs a file, and `url` is `memory:`"
        yield Diagnostic("AF0120", message, where, help='write url = "sqlite:PATH", or take durability out')
    else:
        message = "`durability` = `none` keeps nothing, and `url` names a file"
        yield Diagnostic("AF0120", message, where, help='write url = "memory:", or durability = "relaxed" for speed')


def _pools_without_room(config: Config, repairs: Repairs) -> Iterator[Diagnostic]:
    """Yield each pool that may not have the workers it keeps, and each whose name looks like that of an agent."""
    for name, pool in config.workers.items():
        if pool.most < pool.count:
            message = f"`max` must be at least `count`, which is {pool.count}, not {pool.max}"
            yield Diagnostic("AF0104", message, repairs.original(("workers", name, "max")))
        meant = "" if name in config.agents else closest(name, config.agents)
        if meant:
            message = f"no agent {quoted(name)}: only `runner.workers.lease` takes workers of this pool"
            where = repairs.original(("workers", name))
            yield Diagnostic("AF0192", message, where, "key", f"did you mean {quoted(meant)}?", "warning")


def _waits_for_nothing(config: Config, repairs: Repairs) -> Iterator[Diagnostic]:
    """Yield each time limit of a wait that no call has."""
    for name, agent in config.agents.items():
        path: KeyPath = ("agents", name)
        is_waiting = agent.rate_limit is not None or name in config.workers
        is_told = is_waiting or repairs.is_broken((*path, "rate_limit")) or repairs.is_broken(("workers",))
        if agent.queue_timeout_seconds is not None and not is_told:
            message = f"agent {quoted(name)} has `queue_timeout_seconds`, and its calls wait for nothing"
            advice = f"add rate_limit, or [workers.{name}], or take it out"
            yield Diagnostic("AF0122", message, repairs.original((*path, "queue_timeout_seconds")), "key", advice)


def _joins_judged_twice(config: Config, repairs: Repairs) -> Iterator[Diagnostic]:
    for path, flow in _flows(config).items():
        if flow.quorum is not None and "failure_threshold" in flow.given:
            message = f"`quorum` is {flow.quorum}, and `failure_threshold` says otherwise how many agents may fail"
            yield Diagnostic("AF0125", message, repairs.original((*path, "quorum")), "key", "give one of them")


def _sessions_of_nobody(config: Config, repairs: Repairs) -> Iterator[Diagnostic]:
    """Yield each `on_busy` of a named flow: it is the event that has a session, whatever flow it runs through."""
    for name, flow in config.flows.items():
        if "on_busy" in flow.given:
            message = f"flow {quoted(name)} has `on_busy`, and only the main flow takes events"
            yield Diagnostic("AF0128", message, repairs.original(("flows", name, "on_busy")), "key", "write it below [orchestration]")


def _schedules_that_contradict(config: Config, repairs: Repairs) -> Iterator[Diagnostic]:
    """Yield each schedule without due times or with two kinds of them, and each that is called as one before it."""
    seen: set[str] = set()
    for index, schedule in enumerate(config.schedules):
        path: KeyPath = ("schedules", index)
        if any(repairs.is_broken((*path, key)) for key in ("cron", "every", "timezone", "name", "target")):
            continue
        if (schedule.cron is None) == (schedule.every is None):
            yield Diagnostic("AF0129", "a schedule has either `cron` or `every`", repairs.original(path), "key", "write one of them")
        elif schedule.every is not None and "timezone" in schedule.given:
            where = repairs.original((*path, "timezone"))
            yield Diagnostic("AF0129", "`timezone` says nothing of `every`", where, "key", "take it out, or write cron")
        elif schedule.title in seen:  # both would be answered by the same runs
            where = repairs.original((*path, "name") if schedule.name else path)
            yield Diagnostic("AF0129", f"two schedules are called {quoted(schedule.title)}", where, help="give each a name of its own")
        seen.add(schedule.title)


def _schedules_for_nobody(config: Config, repairs: Repairs) -> Iterator[Diagnostic]:
    """Yield each target that a file does not know, where events go to their targets; Python may yet register it."""
    known = [*config.agents, *config.flows]
    for index, schedule in enumerate(config.schedules):
        if config.orchestration.mode == "route" and schedule.target and schedule.target not in known:
            message = f"no agent or flow named {quoted(schedule.target)} in the file"
            meant = closest(schedule.target, known)
            advice = f"did you mean {quoted(meant)}?" if meant else f"register it in Python, or add a table [agents.{schedule.target}]"
            yield Diagnostic("AF0193", message, repairs.original(("schedules", index, "target")), help=advice, severity="warning")


def _policies_without_use(config: Config, repairs: Repairs) -> Iterator[Diagnostic]:
    """Yield each key of an agent that another one, which is not there, would use."""
    budgets = [*(flow.budget for flow in _flows(config).values()), *(agent.budget for agent in config.agents.values())]
    counts_tokens = any(budget is not None and budget.tokens is not None for budget in budgets)
    for name, agent in config.agents.items():
        path: KeyPath = ("agents", name)
        if agent.fallback_on is not None and not agent.fallback and not repairs.is_broken((*path, "fallback")):
            message = f"agent {quoted(name)} has `fallback_on`, and nothing to fall back on"
            yield Diagnostic("AF0126", message, repairs.original((*path, "fallback_on")), "key", "add fallback, or take it out")
        if agent.reserve_tokens and not counts_tokens and not _has_broken_budget(config, repairs):
            message = f"agent {quoted(name)} has `reserve_tokens`, and no budget counts tokens"
            advice = "add budget = { tokens = ... } to the flow or the agent, or take it out"
            yield Diagnostic("AF0127", message, repairs.original((*path, "reserve_tokens")), "key", advice)


def _has_broken_budget(config: Config, repairs: Repairs) -> bool:
    paths: list[KeyPath] = [*_flows(config), *(("agents", name) for name in config.agents)]
    return any(repairs.is_broken((*path, "budget")) or repairs.is_broken((*path, "budget", "tokens")) for path in paths)
