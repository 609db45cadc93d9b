"""`agentflow runs pause|resume|cancel|approve|reject|retry` and `dead-letters replay`: orders on recorded runs.

The journal's owner carries an order out: the process that has it locked, else this one.
"""

from __future__ import annotations

import asyncio

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.exits import Exit
from agentflow.cli.hints import Hint
from agentflow.cli.journals import Found, Place
from agentflow.cli.resume import Wanted, resume
from agentflow.engine.desk import AGAIN, Desk, Order, Receipt
from agentflow.errors import AgentflowError, FencedError, IllegalTransitionError, StoreLockedError
from agentflow.system import SystemClock

WAIT_S = 5.0  # for an owner that is about to listen, or about to end
PAUSE_S = 0.05
_DONE = {"pause": "paused", "resume": "resumed", "cancel": "cancelled", "approve": "approved", "reject": "rejected"}


def give(place: Place, order: Order, *, is_continuing: bool = False, is_json: bool = False) -> int:
    """Have an order carried out, and say what came of it; return the exit code.

    Args:
        place: the journal.
        order: what is asked.
        is_continuing: go on with the run in this process, unless it goes on in another one.
        is_json: print JSON.

    Raises:
        AgentflowError: the journal cannot be opened, or has no such run.
    """
    hint = Hint(place.config, place.journal)
    try:
        receipt = asyncio.run(_given(place, order))
    except IllegalTransitionError as error:
        terminal.show_error(error)
        return Exit.FAILED
    except RefusedError as error:
        terminal.show_error(error)
        return Exit.FAILED if error.is_about_state else Exit.USAGE
    if not receipt.is_recorded:
        _show(receipt, order, "", is_json=is_json)
        return Exit.FAILED
    is_open = order.verb in ("approve", "reject", "resume", *AGAIN) and not receipt.is_live
    if is_open and is_continuing:
        if not is_json:
            terminal.note(terminal.safe(_told(receipt, order)))
        return resume(Wanted(place, receipt.run_id, is_json=is_json))
    _show(receipt, order, hint.command(f"resume {receipt.run_id}") if is_open else "", is_json=is_json)
    return Exit.DONE


def _show(receipt: Receipt, order: Order, following: str, *, is_json: bool) -> None:
    if is_json:
        terminal.out(terminal.as_json({"order": order.verb, **receipt.to_dict(), "next": following or None}, is_indented=True))
    elif receipt.is_recorded:
        terminal.out(terminal.safe(_told(receipt, order)))
        if following:
            terminal.out(terminal.safe(f"to go on: {following}"))
    if not receipt.is_recorded:
        what = "it is being cancelled already" if order.verb == "cancel" else f"{receipt.position or 'it'} was already answered"
        terminal.note(terminal.safe(f"error: nothing was recorded for {receipt.run_id}: {what}, or does not wait"))


def _told(receipt: Receipt, order: Order) -> str:
    if order.verb in AGAIN:
        return f"recorded {receipt.run_id}, which begins with the event of {order.run_id}"
    at = f" at {receipt.position}" if receipt.position else ""
    return f"{_DONE[order.verb]} {receipt.run_id}{at}"


class RefusedError(AgentflowError):
    """The process that has the journal refused an order; `code` and message are its own. `is_about_state`: of the run."""

    def __init__(self, code: str, message: str, hint: str, *, is_about_state: bool) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.is_about_state = is_about_state


async def _given(place: Place, order: Order) -> Receipt:
    found = place.found()
    async with found.opened() as (_, history):  # first, for it makes no journal where there is none
        await history.find(order.run_id)
    loop = asyncio.get_running_loop()
    until = loop.time() + WAIT_S
    while True:
        reason: AgentflowError
        try:
            return await _carried_out(found, order)
        except StoreLockedError as error:
            reason, control = error, error.control
        try:
            return _receipt(await app.ask_owner(control, order.to_dict()))
        except OSError:
            pass  # it does not listen yet, or not any more
        except RefusedError as error:
            if error.code != FencedError.code:
                raise
            reason = error  # it is about to end
        if loop.time() > until:
            raise reason
        await asyncio.sleep(PAUSE_S)


async def _carried_out(found: Found, order: Order) -> Receipt:
    async with found.opened(is_reader=False) as (store, history):
        return await Desk(store, history, SystemClock()).carry_out(order)


def _receipt(told: dict[str, object]) -> Receipt:
    error = told.get("error")
    if isinstance(error, dict):
        is_about_state = bool(error.get("state"))
        raise RefusedError(str(error["code"]), str(error["message"]), str(error["hint"]), is_about_state=is_about_state)
    texts = (str(told.get("run_id", "")), bool(told.get("is_recorded")), str(told.get("state", "")), str(told.get("position", "")))
    return Receipt(*texts, is_live=bool(told.get("is_live")))
