"""The SQL that only the engine runs."""

from carafe.store.statement import Statement, statement


def _here(name: str) -> Statement:
    return statement(name, "carafe.engine")


DEFER = _here("defer")
FENCES = _here("fences")
STACK_ANSWER = _here("stack_answer")
UNDEFER = _here("undefer")
WORKER_UNHELD = _here("worker_unheld")
