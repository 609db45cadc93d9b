"""Section: what all tables of the configuration share, and the kinds of numbers in them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9_.-]{1,64}$"
NAME = re.compile(NAME_PATTERN)
LARGEST = 2**63 - 1
ADVICE = "advice"  # what to do about a refused value, in the context of its error
ONE, SEVERAL, TABLE = "<word>", "<array>", "<table>"  # the forms that a value of several may have, as its error's path names them
FORMS = frozenset({ONE, SEVERAL, TABLE})

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=LARGEST)]


class Section(BaseModel):
    """What all tables share: unknown keys are refused, types are strict, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)

    @property
    def given(self) -> frozenset[str]:
        """Return the keys that a file, the environment or the command line sets."""
        return frozenset(key_of(type(self), name) for name in self.model_fields_set)


def key_of(table: type[Section], name: str) -> str:
    """Return the key that files have for a field: some keys are words of Python."""
    return table.model_fields[name].alias or name
