"""The worker as a process: real Celery, real servers, real signals."""
