"""Kinds of jobs that somebody watches in a browser (JOB_MODULES)."""

from pydantic import SecretStr

from carafe import Job


class Broken(Job, max_retries=0):
    """Fails while its `cause` stands in the table `causes`; works once the cause is gone."""

    cause: str
    number: int = 0


class Invoice(Broken, kind="shop.invoice"):
    """Fails of its own cause."""


class Letter(Broken, kind="shop.letter"):
    """Fails of its own cause."""


class Parcel(Broken, kind="shop.parcel"):
    """Fails of its own cause."""


class Refund(Broken, kind="shop.refund"):
    """Fails of its own cause."""


class Wait(Job, kind="shop.wait"):
    """Runs until it is cancelled."""

    note: str = ""


class Greet(Job, kind="shop.greet"):
    """Answers with a greeting."""

    name: str
    times: int = 1
    secret: SecretStr | None = None
