"""The Django project of examples/django."""

import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.projects import EXAMPLES, Project


@dataclass(frozen=True)
class DjangoProject(Project):
    """The project, with its ``manage.py``."""

    def manage(self, *arguments: str, code: int = 0, **more: str) -> str:
        """What ``manage.py`` prints; see `run`."""
        return self.run(sys.executable, "manage.py", *arguments, code=code, **more)

    def script(self, text: str, **more: str) -> str:
        """What a program prints that runs within the project, after ``django.setup()``."""
        return super().script(f"import django; django.setup()\n{text}", **more)


def project_on(database_url: str, redis_url: str) -> DjangoProject:
    """The project on these servers."""
    parts = urlsplit(database_url)
    variables = {
        "PGHOST": parts.hostname or "",
        "PGPORT": str(parts.port or 5432),
        "PGDATABASE": parts.path.strip("/"),
        "PGUSER": parts.username or "",
        "PGPASSWORD": parts.password or "",
        "REDIS_URL": redis_url,
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        # What a project's own environment may have: it names no database of this test.
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    }
    return DjangoProject(EXAMPLES / "django", database_url, redis_url, variables)
