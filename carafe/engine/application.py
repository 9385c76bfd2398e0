"""The Celery application: Celery's command line works as its users expect (``celery -A worker worker``, ``inspect``).

Its configuration comes from Carafe's settings alone. It runs no Celery tasks: `carafe.run` is only the task name in the
hints. A call of that task with Celery's methods raises an error, which names the method of Carafe's client to use instead.
"""

import os
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery import Celery, Task, signals
from celery.exceptions import ImproperlyConfigured

from carafe.jobs.queue_name import QUEUE
from carafe.named_modules import import_named
from carafe.queue.hints import TASK
from carafe.settings.src_layout import not_installed

if TYPE_CHECKING:
    from carafe.settings.settings import Settings


REFUSED = f"{TASK} is not called as a Celery task; use carafe.jobs.Client.enqueue"


class HintOnly(Task):
    """The task class of `carafe.run`. ``delay`` and ``apply_async`` raise, since they would push a hint without a job."""

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        """Always raises ``ImproperlyConfigured``, because jobs are enqueued with Carafe's client instead."""
        raise ImproperlyConfigured(REFUSED)


class Application(Celery):
    """A Celery application that is configured from Carafe's settings and keeps them as `carafe_settings`."""

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
            """The task whose name is in the hints. Always raises, because a worker claims the job in Postgres and does not
            call this task."""
            raise ImproperlyConfigured(REFUSED)

    def configure(self, settings: "Settings") -> None:
        """Use these settings from now on, in place of the earlier ones. Raises ``ImproperlyConfigured`` if they have no
        REDIS_URL."""
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
        """The class of Carafe's worker program, which ``celery worker`` starts."""
        return self.subclass_with_self("carafe.engine.worker:Worker")


@signals.setup_logging.connect
def _logging_is_ours(**_: Any) -> None:
    """Does nothing. Celery does not configure logging if this signal has a receiver. `carafe.telemetry.logging` has
    configured it already."""


def create_application(settings: "Settings") -> Application:
    """Configure logging, and return a new Celery application with these settings."""
    from carafe.telemetry.logging import configure_logging

    configure_logging(settings)
    return Application(settings)


def application_of(settings: "Settings") -> Any:
    """Returns the Celery application that WORKER_APPLICATION names (``module:attribute``), configured with these settings.

    Raises ``ImproperlyConfigured`` if the application cannot be imported, or is not an `Application`. Also writes
    DATABASE_URL and REDIS_URL of the settings into the environment.
    """
    # The application, child processes and handlers read the environment: let them find the same servers.
    for name in ("database_url", "redis_url"):
        value = getattr(settings, name)
        if value is not None:
            os.environ[name.upper()] = value.get_secret_value()
    module, _, attribute = settings.worker_application.partition(":")
    try:
        application = getattr(import_named(module), attribute or "app")
    except (ImportError, AttributeError) as error:
        text = f"WORKER_APPLICATION: {settings.worker_application!r} not found: {error}{not_installed(module)}"
        raise ImproperlyConfigured(text) from error
    if not isinstance(application, Application):
        raise ImproperlyConfigured(
            f"WORKER_APPLICATION: {settings.worker_application!r} is not a carafe.engine.application.Application"
        )
    application.configure(settings)
    return application


def __getattr__(name: str) -> Any:
    """Create the attribute `app` when it is first used, with settings from the environment. So the import of this module
    alone configures nothing."""
    if name == "app":
        from carafe.settings.local_servers import with_servers
        from carafe.settings.settings import load_settings

        application = create_application(with_servers(load_settings()))
        globals()["app"] = application
        return application
    raise AttributeError(name)
