"""The web application that is served while WEB_APPLICATION does not name another: the job API, health checks and /docs."""

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from carafe.jobs.modules import load_jobs
from carafe.settings.settings import Settings
from carafe.web.application import create_web_application


def create_app(settings: Settings) -> FastAPI:
    """Returns the application, with the jobs of JOB_MODULES. Raises `ModuleNotUsable` if one of these modules cannot be
    imported."""
    load_jobs(settings.job_modules)
    app = create_web_application(settings)

    @app.get("/", include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse("docs")

    return app
