"""What a web process mounts: the job API, problem+json, authentication, health, and the server that runs it.

Imports neither the engine nor any application. Start at `carafe.web.application`.
"""

from carafe.web.application import carafe_lifespan, create_web_application, mount_jobs_api
from carafe.web.authentication import Caller, Operator, Viewer
from carafe.web.bodies import reads
from carafe.web.installation import ClientOf, SettingsOf, get_client, get_settings
from carafe.web.problems import Problem, ProblemError, install_problem_handlers
from carafe.web.transactions import transaction

__all__ = [
    "Caller",
    "ClientOf",
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
    "transaction",
]
