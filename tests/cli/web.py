"""A web application of the tests' own: two lines, as a team with an application of its own would write it."""

from fastapi import FastAPI

from carafe.settings.settings import Settings
from carafe.web.application import create_web_application


def application(settings: Settings) -> FastAPI:
    return create_web_application(settings, title="tests")
