"""Tests on a real Postgres and Redis, which Carafe's pytest plugin starts. Each test has a database of its own."""

from carafe import State, SyncClient, testing
from newsletter.jobs import SendMail
from newsletter.publishing import publish


def test_each_subscriber_gets_the_issue(carafe_sync_client: SyncClient) -> None:
    with testing.manual(carafe_sync_client) as jobs:  # nothing runs by itself: look first
        publish(carafe_sync_client, 7, ["ada@example.org", "grace@example.org"])

        jobs.assert_enqueued(SendMail, count=2, issue=7)
        jobs.assert_enqueued(SendMail, count=1, to="ada@example.org")
        records = jobs.drain()  # run them now

    assert [record.result for record in records] == ["To ada@example.org: issue 7", "To grace@example.org: issue 7"]


def test_nobody_gets_an_issue_without_subscribers(carafe_sync_client: SyncClient) -> None:
    with testing.manual(carafe_sync_client) as jobs:
        publish(carafe_sync_client, 7, [])

        jobs.assert_not_enqueued(SendMail)


def test_a_wrong_address_is_not_tried_again(carafe_sync_client: SyncClient) -> None:
    with testing.inline(carafe_sync_client):  # a job runs as soon as it is enqueued
        job = carafe_sync_client.enqueue(SendMail(to="nobody", issue=7))

    record = carafe_sync_client.get(job.id)
    assert (record.state, record.error) == (State.DEAD, "'nobody' is not an address")
