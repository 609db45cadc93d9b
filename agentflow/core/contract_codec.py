"""What flows and agents declare of the state, and aggregates, as JSON and back, for the plan codec: what is not declared is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

from agentflow.core.aggregate import BEST, Aggregate, Gather, is_function
from agentflow.core.contract import Contract, Schema
from agentflow.core.merge import Combine
from agentflow.core.packing import MisfitError, mapping, text, texts
from agentflow.core.values import Json

Table: TypeAlias = dict[str, Json]
MakeSchema: TypeAlias = Callable[[Mapping[str, Json]], Schema]


def pack_contract(contract: Contract | None) -> Table:
    """Return an agent's contract as an entry of its call's row."""
    row: Table = {}
    if contract is not None and contract.writes is not None:
        row["writes"] = list(contract.writes)
    if contract is not None and contract.output is not None:
        row["output_schema"] = dict(contract.output.source)
    return {"contract": row} if row else {}


def unpack_contract(row: Table, schema: MakeSchema) -> Contract | None:
    """Return what `pack_contract` has packed.

    Raises:
        MisfitError: it has another shape. What `schema` raises passes, too.
    """
    if "contract" not in row:
        return None
    told = mapping(row["contract"])
    writes = texts(told["writes"]) if "writes" in told else None
    return Contract(writes, schema(mapping(told["output_schema"])) if "output_schema" in told else None)


def pack_state_schema(schema: Schema | None) -> Table:
    """Return the schema of a flow's state as an entry of its row."""
    return {} if schema is None else {"state_schema": dict(schema.source)}


def unpack_state_schema(row: Table, schema: MakeSchema) -> Schema | None:
    """Return what `pack_state_schema` has packed.

    Raises:
        MisfitError: it has another shape. What `schema` raises passes, too.
    """
    return schema(mapping(row["state_schema"])) if "state_schema" in row else None


def pack_aggregate(aggregate: Aggregate | None) -> Table:
    """Return a join's aggregate as an entry of its row."""
    return {} if aggregate is None else {"aggregate": aggregate.source}


def unpack_aggregate(row: Table, function: Callable[[str], Combine]) -> Aggregate | None:
    """Return what `pack_aggregate` has packed; `function` finds what `module:function` names.

    Raises:
        MisfitError: it has another shape. What `function` raises passes, too.
    """
    if "aggregate" not in row:
        return None
    source = text(row["aggregate"])
    if is_function(source):
        return Aggregate(source, cast("Gather", function(source)))
    if source == BEST:
        raise MisfitError("an aggregate by no key")
    return Aggregate(source)
