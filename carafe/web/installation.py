"""Stores Carafe's client and settings on a FastAPI application, and gives them to the routes as dependencies."""

from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, FastAPI, Request

from carafe import Client
from carafe.settings.settings import Settings
from carafe.web.large_bodies import LargeBodies


@dataclass(frozen=True, slots=True)
class Installation:
    """What `install` stores on an application: the client, the settings, and the limits for large bodies."""

    client: Client
    settings: Settings
    bodies: LargeBodies = field(default_factory=LargeBodies)


def install(app: FastAPI, client: Client, settings: Settings) -> None:
    """Store the client and the settings on `app`, as ``app.state.carafe``."""
    app.state.carafe = Installation(client, settings)


def installation(app: FastAPI) -> Installation:
    """Returns what `install` stored on `app`. Raises RuntimeError when `install` was not called for it."""
    found = getattr(app.state, "carafe", None)
    if not isinstance(found, Installation):
        raise RuntimeError("this application has no carafe client: call mount_jobs_api(app, client, settings)")
    return found


def get_client(request: Request) -> Client:
    """Dependency: the application's client."""
    return installation(cast(FastAPI, request.app)).client


def get_settings(request: Request) -> Settings:
    """Dependency: the application's settings."""
    return installation(cast(FastAPI, request.app)).settings


def get_bodies(request: Request) -> LargeBodies:
    """Dependency: the object that limits the application's large bodies."""
    return installation(cast(FastAPI, request.app)).bodies


ClientOf = Annotated[Client, Depends(get_client)]
"""A parameter of this type is the application's client."""

SettingsOf = Annotated[Settings, Depends(get_settings)]
"""A parameter of this type is the application's settings."""
