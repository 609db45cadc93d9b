"""Secrets by reference: where one is kept, and what is there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from agentflow.config.section import Section
from agentflow.config.source import reason_of
from agentflow.core.redaction import KNOWN

LONGEST = 64 * 1024


class SecretReference(Section):
    """Where a secret is kept; the secret itself never stands in the file. Exactly one key is given."""

    env: str | None = Field(default=None, description="The environment variable that holds the secret.")
    file: str | None = Field(default=None, description="The file that holds the secret.")

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretReference:
        if (self.env is None) == (self.file is None):
            raise PydanticCustomError("AF0104", "must have exactly one of `env` and `file`")
        return self

    def resolved(self, folder: Path, environ: Mapping[str, str] | None = None) -> str:
        """Return the secret; a file's name is relative to `folder`, and a line end behind it is no part of it.

        From now on it is masked in logs and errors.

        Raises:
            LookupError: there is none; the message says why, and never holds it.
        """
        if self.env is not None:
            found = (os.environ if environ is None else environ).get(self.env, "")
            if not found:
                raise LookupError(f"the environment variable {self.env} is not set")
            KNOWN.learn(found)
            return found
        path = folder / (self.file or "")
        try:
            with path.open("rb") as stream:
                text = stream.read(LONGEST).decode().rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise LookupError(f"the file {path} cannot be read: {reason_of(error)}") from None
        if not text:
            raise LookupError(f"the file {path} is empty")
        KNOWN.learn(text)
        return text


def _reference(value: object) -> object:
    if isinstance(value, dict):
        return value
    raise PydanticCustomError("AF0117", "is a secret in plain text")


Secret = Annotated[SecretReference, BeforeValidator(_reference)]
