"""The web application of the briefing service (setting WEB_APPLICATION).

It consists of Carafe's job API and health checks, the briefings API, and the briefings pages for the dashboard.
"""

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from app import briefings, dashboard, sample_webhook
from briefings.settings import BriefingSettings
from carafe import load_jobs, load_settings
from carafe.dashboard import add_page
from carafe.web import create_web_application


def create_app(settings: BriefingSettings | None = None) -> FastAPI:
    """Returns the application. It connects to its servers at the first request. DATABASE_URL and REDIS_URL must be set."""
    settings = settings or load_settings(BriefingSettings)
    load_jobs(settings.job_modules)
    app = create_web_application(settings, routers=[briefings.router], title="Briefings")
    add_page(app, "Briefings", dashboard.router, path="/briefings", order=15, templates=dashboard.TEMPLATES)
    if settings.environment == "development" and settings.briefing_webhook_url is None:
        app.include_router(sample_webhook.create_router(settings.briefing_webhook_secret))

    @app.get("/", include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse("docs")

    return app
