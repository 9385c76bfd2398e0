"""The systems that are measured, carafe first. Each module says which settings its system gets and why."""

from benchmarks.systems.carafe import CARAFE
from benchmarks.systems.celery import GEVENT, PREFORK, PREFORK_RESULTS, SOLO, SOLO_RESULTS
from benchmarks.systems.dbos import DBOS
from benchmarks.systems.dramatiq import DRAMATIQ
from benchmarks.systems.huey import HUEY
from benchmarks.systems.oban import OBAN
from benchmarks.systems.pgqueuer import PGQUEUER
from benchmarks.systems.procrastinate import PROCRASTINATE
from benchmarks.systems.taskiq import TASKIQ

ALL = (
    CARAFE,
    PREFORK,
    PREFORK_RESULTS,
    SOLO,
    SOLO_RESULTS,
    GEVENT,
    DRAMATIQ,
    TASKIQ,
    HUEY,
    PROCRASTINATE,
    PGQUEUER,
    OBAN,
    DBOS,
)
