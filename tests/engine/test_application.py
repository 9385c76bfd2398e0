"""The Celery application in this process: it uses only the settings that it was given last."""

from typing import Any

import pytest

from carafe.engine.application import application_of
from carafe.settings.settings import Settings


def given(port: int) -> Settings:
    return Settings.model_validate(
        {
            "database_url": f"postgresql://127.0.0.1:{port}/nothing",
            "redis_url": f"redis://127.0.0.1:{port}/0",
            "worker_concurrency": port,
            "worker_application": "carafe.engine.application:app",
        }
    )


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `application_of` sets, it sets for this test alone."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:9/nothing")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:9/0")


def ports(application: Any) -> set[int]:
    """Of the brokers that it would go to."""
    connections = (
        application.connection_for_read(),
        application.connection_for_write(),
        application.connection(),
        application.pool.connection,
        application.amqp.producer_pool.connections.connection,
    )
    return {connection.port for connection in connections}


def test_it_works_on_the_settings_that_it_was_given_last() -> None:
    for port in (11, 12):
        application = application_of(given(port))
        assert ports(application) == {port}
        assert application.conf.worker_concurrency == port


def test_the_broker_of_another_celery_application_is_none_of_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.setenv(name, "redis://127.0.0.1:13/0")
    assert ports(application_of(given(11))) == {11}
