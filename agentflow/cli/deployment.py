"""What a deployment says of itself, outside any configuration: which environment this is."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class Deployment(BaseSettings):
    """Settings of the deployment, from the environment, then from the `.env` file of the folder."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True)

    environment: str = "development"


def environment_of(folder: Path) -> str:
    """Return the deployment's ENVIRONMENT, which picks one of a folder's configurations; default `development`."""
    return Deployment(_env_file=folder / ".env").environment
