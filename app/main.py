"""The web application of the briefing service (WEB_APPLICATION): the library's job API and health, and briefings.

Its dashboard gets a page of the service's own, too.
"""

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from app import briefings, dashboard, sample_webhook
from carafe.jobs.modules import load_jobs
from carafe.settings import Settings, load_settings
from carafe.web.application import create_web_application
from carafe.web.dashboard import add_page


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application. It connects at its first request; DATABASE_URL and REDIS_URL must be set."""
    settings = settings or load_settings()
    load_jobs(settings.job_modules)
    app = create_web_application(settings, routers=[briefings.router], title="Briefings")
    add_page(app, "Briefings", dashboard.router, path="/briefings", order=15, templates=dashboard.TEMPLATES)
    if settings.environment == "development" and settings.briefing_webhook_url is None:
        app.include_router(sample_webhook.create_router())

    @app.get("/", include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse("docs")

    return app
