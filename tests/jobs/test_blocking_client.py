"""What holds for `Client` holds for `SyncClient`: these tests of the one are run on the other's connections too."""

from collections.abc import Iterator

import pytest

from carafe import SyncClient
from tests.jobs import test_acting, test_enqueue, test_idempotency, test_reading

NOT_HERE = {
    "test_a_job_that_is_claimed_meanwhile_is_asked_to_stop": "two calls at once, which here need two threads",
    "test_an_enqueue_that_stores_nothing_new_is_not_written_down": "an AsyncSession, which a SyncClient refuses",
    "test_of_repeats_in_sessions_of_ones_own_one_stores_row_and_job": "an AsyncSession, which a SyncClient refuses",
}

for module in (test_acting, test_enqueue, test_idempotency, test_reading):
    globals().update(
        {name: test for name, test in vars(module).items() if name.startswith("test_") and name not in NOT_HERE}
    )


@pytest.fixture
def carafe_client(carafe_database_url: str, carafe_redis_url: str, carafe_modules: None) -> Iterator[object]:
    """The `Client` within a `SyncClient`. Its coroutines never suspend, so an event loop can run them too."""
    with SyncClient.connect(database_url=carafe_database_url, redis_url=carafe_redis_url) as client:
        yield client._client
