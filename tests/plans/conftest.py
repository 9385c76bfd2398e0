"""The databases of these tests, on each installed version of Postgres."""

from collections.abc import Iterator

import pytest

from carafe.testing.databases import Databases
from tests.plans.servers import OLDEST, databases_on_15


@pytest.fixture(scope="session", params=["embedded", "15"])
def databases(request: pytest.FixtureRequest, carafe_databases: Databases) -> Iterator[Databases]:
    """One server after the other."""
    if request.param == "embedded":
        yield carafe_databases
    elif not OLDEST.is_dir():
        pytest.skip("this machine has no PostgreSQL 15 (Debian: apt install postgresql-15)")
    else:
        import tempfile
        from pathlib import Path

        # Not below pytest's own folder, which is closed to the account that Postgres runs as.
        with (
            tempfile.TemporaryDirectory(prefix="carafe-15-", ignore_cleanup_errors=True) as folder,
            databases_on_15(Path(folder)) as found,
        ):
            yield found
