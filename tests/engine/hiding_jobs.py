"""The jobs of `test_hiding` (JOB_MODULES): each gets a secret and reveals it."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, PlainSerializer, SecretStr

from carafe import Job

FORBIDDEN = "not-in-this-house-1"


def refused(value: SecretStr) -> SecretStr:
    """A validator that says what it should not; the caller's side lets it pass."""
    import os

    if os.environ.get("REFUSE_SECRETS") and value.get_secret_value() == FORBIDDEN:
        raise ValueError(f"{value.get_secret_value()} is not allowed")
    return value


class Login(BaseModel):
    """A secret further down, shown by its serializer."""

    name: str
    password: Annotated[SecretStr, PlainSerializer(lambda secret: secret.get_secret_value(), when_used="json")]


class Letting(Job):
    """Lets its secret out as `how` says."""

    how: str
    logins: list[Login]
    key: Annotated[SecretStr, AfterValidator(refused)]


class AsyncLetting(Letting, kind="hiding.async"):
    """On the loop."""


class ThreadLetting(Letting, kind="hiding.thread"):
    """In a thread."""


class ProcessLetting(Letting, kind="hiding.process"):
    """In a child process."""
