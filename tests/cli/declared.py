"""The jobs that these tests enqueue."""

from typing import Literal
from uuid import UUID

from pydantic import Field, SecretStr

from carafe import Job


class Greet(Job, kind="cli.greet"):
    name: str
    count: int = 1
    tags: list[str] = Field(default_factory=list)
    reference: UUID | None = None
    password: SecretStr | None = None
    style: Literal["1", "formal"] = "formal"


class Fail(Job, kind="cli.fail", max_retries=0):
    message: str = "boom"


class Hold(Job, kind="cli.hold"):
    pass
