"""The tests' own web application: two lines, as a team would write them for its application."""

from fastapi import FastAPI

from carafe.settings.settings import Settings
from carafe.web.application import create_web_application


def application(settings: Settings) -> FastAPI:
    return create_web_application(settings, title="tests")
