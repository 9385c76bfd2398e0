"""Tests of the shop: ``manage.py test``. They need Postgres, and neither Redis nor a worker."""

from django.db import transaction
from django.test import TestCase, TransactionTestCase

from carafe.django import client, enqueue
from carafe.django.testing import enqueued
from shop.jobs import CountOrders, SendReceipt
from shop.models import Order


class Orders(TestCase):
    """A test within one transaction, which is rolled back at the end."""

    def test_an_order_enqueues_its_receipt(self) -> None:
        with enqueued() as jobs, self.captureOnCommitCallbacks() as callbacks:
            answer = self.client.post("/orders", {"email": "ada@example.org"})

        jobs.assert_enqueued(SendReceipt, count=1, order=answer.json()["order"])
        jobs.assert_not_enqueued(CountOrders)
        self.assertEqual(len(callbacks), 1)

    def test_an_order_that_is_rolled_back_enqueues_nothing(self) -> None:
        with enqueued() as jobs, self.captureOnCommitCallbacks() as callbacks:
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                enqueue(SendReceipt(order=1))
                1 / 0  # noqa: B018

        jobs.assert_not_enqueued(SendReceipt)
        self.assertEqual(callbacks, [])

    def test_a_handler_is_a_function(self) -> None:
        from shop.handlers import send_receipt

        order = Order.objects.create(email="ada@example.org")
        send_receipt(SendReceipt(order=order.pk), None)  # type: ignore[arg-type]  # it does not use its context
        order.refresh_from_db()
        self.assertTrue(order.receipt_sent)


class Committed(TransactionTestCase):
    """A test with real commits."""

    def test_a_job_outside_a_transaction_is_committed_at_once(self) -> None:
        with enqueued() as jobs:
            answer = enqueue(SendReceipt(order=7))

        self.assertEqual(client().get(answer.id).args, {"order": 7})
        [job] = jobs.assert_enqueued(SendReceipt, order=7)
        self.assertEqual(job.id, answer.id)
