"""A customer export, cleaned in four steps: collect, process, validate, publish."""

from __future__ import annotations

import csv
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentflow import Event, State

HERE = Path(__file__).parent
COUNTRIES = {
    "china": "CN",
    "denmark": "DK",
    "india": "IN",
    "japan": "JP",
    "morocco": "MA",
    "nigeria": "NG",
    "portugal": "PT",
    "spain": "ES",
    "sweden": "SE",
}
DATE_FORMATS = ("%Y-%m-%d", "%d/%m/%Y")
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[a-z]{2,}")

Customer = dict[str, Any]


def collect(event: Event, state: State) -> State:
    """Read the export as it is."""
    path = Path(event.data.get("source", HERE / "data" / "customers.csv"))
    with path.open(newline="", encoding="utf-8") as file:
        state["raw_data"] = list(csv.DictReader(file))
    return _leave(state, "collection", "processing")


def process(event: Event, state: State) -> State:
    """Bring every field into one form; what cannot be read becomes null."""
    state["processed_data"] = [_normal_form(row) for row in state.pop("raw_data")]
    return _leave(state, "processing", "validation")


def validate(event: Event, state: State) -> State:
    """Part the good records from the bad ones, and say what is wrong with each of those."""
    good: list[Customer] = []
    rejected: list[Customer] = []
    seen: set[str] = set()
    for customer in state.pop("processed_data"):
        faults = _faults(customer)
        if customer["customer_id"] in seen:
            faults.append("repeated customer_id")
        seen.add(customer["customer_id"])
        if faults:
            rejected.append({"customer_id": customer["customer_id"], "faults": faults})
        else:
            good.append(customer)
    state["customers"] = good
    state["validation_result"] = {"accepted": len(good), "rejected": rejected}
    return _leave(state, "validation", "publishing")


def publish(event: Event, state: State) -> State:
    """Write the good records as JSON, the most valuable customer first."""
    customers = sorted(state.pop("customers"), key=lambda customer: customer["lifetime_value"], reverse=True)
    path = Path(event.data.get("output", HERE / "out" / "customers.json")).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(customers, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    state["publish_result"] = {
        "path": str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path),
        "records": len(customers),
        "lifetime_value": round(sum(customer["lifetime_value"] for customer in customers), 2),
    }
    state["pipeline_complete"] = True
    return _leave(state, "complete", "")


def _leave(state: State, stage: str, next_stage: str) -> State:
    state.meta["stage"] = stage
    state.meta["next_stage"] = next_stage
    return state


def _normal_form(row: Customer) -> Customer:
    country = row["country"].strip()
    return {
        "customer_id": row["customer_id"],
        "name": row["name"].strip() or None,
        "email": row["email"].strip().lower(),
        "country": COUNTRIES.get(country.lower(), country.upper()),
        "signed_up": _date(row["signed_up"]),
        "lifetime_value": _number(row["lifetime_value"]),
    }


def _faults(customer: Customer) -> list[str]:
    faults = [f"no {field}" for field in ("name", "signed_up", "lifetime_value") if customer[field] is None]
    if not EMAIL.fullmatch(customer["email"]):
        faults.append("no valid email")
    if customer["country"] not in COUNTRIES.values():
        faults.append(f"unknown country {customer['country']}")
    return faults


def _date(text: str) -> str | None:
    for pattern in DATE_FORMATS:
        try:
            return datetime.strptime(text, pattern).replace(tzinfo=UTC).date().isoformat()
        except ValueError:
            continue
    return None


def _number(text: str) -> float | None:
    return float(text.replace(",", "")) if text else None
