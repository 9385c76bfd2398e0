"""The Celery application: Celery's command line works as its users expect (``celery -A worker worker``, ``inspect``).

Its configuration comes from the settings alone. Tasks are not run through it: `carafe.run` is the name under which hints
travel, and calling it in Celery's way is refused in words.
"""

import importlib
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery import Celery, Task, signals
from celery.exceptions import ImproperlyConfigured

from carafe.jobs.hints import QUEUE, TASK

if TYPE_CHECKING:
    from carafe.settings import Settings


REFUSED = f"{TASK} is not called as a Celery task; use carafe.jobs.Client.enqueue"


class HintOnly(Task):
    """A task that cannot be sent: ``delay`` and ``apply_async`` would make a hint without a job."""

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        """Refused. Raises ``ImproperlyConfigured``."""
        raise ImproperlyConfigured(REFUSED)


class Application(Celery):
    """A Celery application that knows its settings."""

    def __init__(self, settings: "Settings", **options: Any) -> None:
        super().__init__("carafe", set_as_current=True, **options)
        self.conf.update(
            broker_transport="carafe.engine.transport:BatchTransport",
            broker_transport_options={
                "ack_emulation": False,
                "priority_steps": [0],
                "socket_keepalive": True,
                # Bounds for a Redis that is silent rather than gone; a blocking pop is read only when it has answered.
                "socket_timeout": 3,
                "socket_connect_timeout": 1,
                "health_check_interval": 2,
                "client_name": "carafe-worker",
            },
            broker_connection_retry_on_startup=True,
            broker_connection_max_retries=None,
            worker_pool="carafe.engine.pool:EnginePool",
            worker_consumer="carafe.engine.consumer:Consumer",
            worker_hijack_root_logger=False,
            worker_redirect_stdouts=False,
            worker_cancel_long_running_tasks_on_connection_loss=False,
            worker_enable_prefetch_count_reduction=False,
            worker_send_task_events=False,
            task_default_queue=QUEUE,
            task_create_missing_queues=False,
            task_ignore_result=True,
            result_backend=None,
            accept_content=["json"],
            control_queue_expires=60.0,
            control_queue_ttl=60.0,
            timezone="UTC",
        )
        self.configure(settings)
        self.steps["worker"].add("carafe.engine.worker:EngineStep")

        @self.task(name=TASK, base=HintOnly)
        def run() -> None:
            """Run a job: only as a hint, claimed in Postgres."""
            raise ImproperlyConfigured(REFUSED)

    def configure(self, settings: "Settings") -> None:
        """Work on these settings from now on, whatever it was made on. Raises ``ImproperlyConfigured`` without REDIS_URL."""
        if settings.redis_url is None:
            raise ImproperlyConfigured("REDIS_URL is not set")
        self.carafe_settings = settings
        self.conf.update(broker_url=settings.redis_url.get_secret_value(), worker_concurrency=settings.worker_concurrency)
        self._after_fork()  # forgets the pools, whose connections lead to the broker of before

    def _connection(self, url: str, **options: Any) -> Any:
        # There is one broker. Celery would prefer CELERY_BROKER_URL, which may be that of another application.
        assert self.carafe_settings.redis_url is not None
        return super()._connection(self.carafe_settings.redis_url.get_secret_value(), **options)

    @cached_property
    def Worker(self) -> Any:
        """Our worker program, which `celery worker` starts."""
        return self.subclass_with_self("carafe.engine.worker:Worker")


@signals.setup_logging.connect
def _logging_is_ours(**_: Any) -> None:
    """Connected, so that Celery leaves logging alone: carafe.logging has configured it."""


def create_application(settings: "Settings") -> Application:
    """A Celery application on these settings."""
    from carafe.logging import configure_logging

    configure_logging(settings)
    return Application(settings)


def application_of(settings: "Settings") -> Any:
    """The Celery application that WORKER_APPLICATION names (``module:attribute``), on these settings.

    Raises ``ImproperlyConfigured`` when there is none.
    """
    # The application, child processes and handlers read the environment: let them find the same servers.
    for name in ("database_url", "redis_url"):
        value = getattr(settings, name)
        if value is not None:
            os.environ[name.upper()] = value.get_secret_value()
    module, _, attribute = settings.worker_application.partition(":")
    try:
        application = getattr(importlib.import_module(module), attribute or "app")
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(f"WORKER_APPLICATION: {settings.worker_application!r} not found: {error}") from error
    if not isinstance(application, Application):
        raise ImproperlyConfigured(
            f"WORKER_APPLICATION: {settings.worker_application!r} is no carafe.engine.application.Application"
        )
    application.configure(settings)
    return application


def __getattr__(name: str) -> Any:
    """`app`, made at first use from the environment (a module that is only imported configures nothing)."""
    if name == "app":
        from carafe.development import with_servers
        from carafe.settings import load_settings

        application = create_application(with_servers(load_settings()))
        globals()["app"] = application
        return application
    raise AttributeError(name)
