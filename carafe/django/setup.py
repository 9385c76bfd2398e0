"""Prepares a process that runs handlers for Django. It is the first of JOB_MODULES (``manage.py carafe`` puts it there), so
that workers and their child processes import it before the project's own modules.

It calls ``django.setup()``, and has each attempt run on database connections that are alive.
"""

import django
from django.apps import apps

from carafe.django.connections import on_living_connections
from carafe.jobs.handlers import around

if not apps.ready:
    django.setup()

around(on_living_connections)
