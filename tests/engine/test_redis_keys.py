"""docs/redis-keys.md agrees with the check of keys that runs at the end of every module of these tests."""

import re

import redis

from tests.engine.redis_keys import DOCUMENTED, undocumented
from tests.engine.worker_process import ROOT


def test_the_keys_without_a_time_to_live_are_those_of_the_documentation() -> None:
    text = (ROOT / "docs" / "redis-keys.md").read_text()
    section = text.split("## Without a time to live")[1].split("\n## ")[0]
    named = set(re.findall(r"^\| `([^`]+)`", section, re.MULTILINE))
    assert named == set(DOCUMENTED)


def test_a_key_that_is_not_documented_is_found(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url, decode_responses=True) as connection:
        connection.set("forgotten", "1")
        connection.set("short-lived", "1", ex=60)
        connection.lpush("default", "x")
        assert undocumented(connection) == {"forgotten": -1}
        connection.delete("forgotten", "short-lived", "default")
