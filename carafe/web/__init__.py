"""The parts of a web process: the job API, problem+json errors, authentication, health checks, and the HTTP server.

This package imports neither the engine nor any application. Read `carafe.web.application` first.
"""

from carafe.web.application import carafe_lifespan, create_web_application, mount_jobs_api
from carafe.web.authentication import Caller, Operator, Viewer
from carafe.web.bodies import reads
from carafe.web.documentation import serve_documentation
from carafe.web.documented import DocumentedRoute
from carafe.web.installation import ClientOf, SettingsOf, get_client, get_settings
from carafe.web.jobs import IdempotencyKey
from carafe.web.problems import Problem, ProblemError, install_problem_handlers
from carafe.web.transactions import transaction

__all__ = [
    "Caller",
    "ClientOf",
    "DocumentedRoute",
    "IdempotencyKey",
    "Operator",
    "Problem",
    "ProblemError",
    "SettingsOf",
    "Viewer",
    "carafe_lifespan",
    "create_web_application",
    "get_client",
    "get_settings",
    "install_problem_handlers",
    "mount_jobs_api",
    "reads",
    "serve_documentation",
    "transaction",
]
