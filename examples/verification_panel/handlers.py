"""Three reviewers look at a claim for expenses, none seeing what the others say; a clerk acts on the panel's verdict."""

from __future__ import annotations

from typing import Any

from agentflow import Event, State

LIMITS = {"meal": 40.0, "hotel": 180.0, "train": 300.0}
COVERED = {"meal", "hotel", "train"}

Answer = dict[str, Any]


async def check_receipts(event: Event, state: State) -> Answer:
    """Each entry needs a receipt."""
    missing = [entry["kind"] for entry in event.data["entries"] if not entry.get("receipt")]
    return _verdict("receipts", f"no receipt for {', '.join(missing)}" if missing else "")


async def check_limits(event: Event, state: State) -> Answer:
    """No entry may be over the limit of its kind."""
    over = [entry["kind"] for entry in event.data["entries"] if entry["amount"] > _limit(entry["kind"])]
    return _verdict("limits", f"over the limit: {', '.join(over)}" if over else "")


async def check_policy(event: Event, state: State) -> Answer:
    """Each entry has to be of a kind that is covered."""
    others = [entry["kind"] for entry in event.data["entries"] if entry["kind"] not in COVERED]
    return _verdict("policy", f"not covered: {', '.join(others)}" if others else "")


async def settle(event: Event, state: State) -> Answer:
    """Pay what was accepted, and say why not."""
    total = sum(entry["amount"] for entry in event.data["entries"])
    reasons = [state[key] for key in ("receipts", "limits", "policy") if state.get(key)]
    return {"paid": total if state["verdict"] == "accept" else 0, "reasons": reasons}


def unanimous(results: list[dict[str, Any]]) -> Answer:
    """Accept when all reviewers do. `results` has what each answered, in the order of the list."""
    answers = [result["output"] for result in results]
    reasons = {key: text for answer in answers for key, text in answer.items() if key != "verdict"}
    return {**reasons, "verdict": "accept" if all(answer["verdict"] == "accept" for answer in answers) else "reject"}


def _limit(kind: str) -> float:
    """Return the limit of a kind. Without one this reviewer cannot say yes or no, and fails: the others decide."""
    if kind not in LIMITS:
        raise LookupError(f"no limit is known for {kind}")
    return LIMITS[kind]


def _verdict(reviewer: str, reason: str) -> Answer:
    return {"verdict": "reject", reviewer: reason} if reason else {"verdict": "accept"}
