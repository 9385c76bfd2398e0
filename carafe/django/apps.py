"""The Django application ``carafe.django``: its check of the settings, and Carafe's migrations after Django's own."""

from django.apps import AppConfig
from django.core import checks
from django.db.models.signals import post_migrate


class CarafeConfig(AppConfig):
    """Registers what this module describes. Imports nothing else of Carafe."""

    name = "carafe.django"
    label = "carafe"
    verbose_name = "Carafe"

    def ready(self) -> None:
        """Called by Django when all applications are loaded."""
        from carafe.django.checks import check_settings
        from carafe.django.schema import migrate_after_django

        checks.register(check_settings)
        post_migrate.connect(migrate_after_django, sender=self)
