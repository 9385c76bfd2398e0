"""Carafe: background jobs for Python web applications, run by Celery workers and remembered by Postgres.

A job that was accepted reaches exactly one end: succeeded, dead with its reason, or cancelled.
Start at `carafe.jobs` (declare, handle, enqueue); `carafe.testing` tests what you built on it.

Importing this package imports nothing else: the web process never pays for the engine, nor the worker for the web.
"""

__version__ = "0.1.0"
