"""Another team's application with the dashboard under a path, for its own uvicorn."""

from fastapi import FastAPI

from carafe import Client
from carafe.dashboard import mount_dashboard
from carafe.settings.settings import load_settings
from carafe.web.application import carafe_lifespan

settings = load_settings()
client = Client.from_settings(settings)
app = FastAPI(lifespan=carafe_lifespan(client, settings))
mount_dashboard(app, "/ops/jobs", client, settings)
