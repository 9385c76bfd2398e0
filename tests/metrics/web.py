"""The web application of these tests: the job API and nothing else (WEB_APPLICATION)."""

from fastapi import FastAPI

from carafe.jobs.modules import load_jobs
from carafe.settings.settings import Settings
from carafe.web import create_web_application


def create(settings: Settings) -> FastAPI:
    """The application."""
    load_jobs(settings.job_modules)
    return create_web_application(settings)
