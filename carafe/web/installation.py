"""Where a request finds the client and the settings: on the application that it came to, put there by `install`."""

from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, FastAPI, Request

from carafe.jobs import Client
from carafe.settings import Settings
from carafe.web.large_bodies import LargeBodies


@dataclass(frozen=True, slots=True)
class Installation:
    """What an application was given."""

    client: Client
    settings: Settings
    bodies: LargeBodies = field(default_factory=LargeBodies)


def install(app: FastAPI, client: Client, settings: Settings) -> None:
    """Give `app` its client and settings; kept as ``app.state.carafe``."""
    app.state.carafe = Installation(client, settings)


def installation(app: FastAPI) -> Installation:
    """What `install` gave. Raises RuntimeError when nothing did."""
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
    """The application's room for large bodies."""
    return installation(cast(FastAPI, request.app)).bodies


ClientOf = Annotated[Client, Depends(get_client)]
SettingsOf = Annotated[Settings, Depends(get_settings)]
