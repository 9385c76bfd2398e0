"""Carafe in one sitting: read these files in order, from top to bottom. Each test shows one concept.

1. `test_1_a_first_job`: declare a job, write its handler, enqueue it, read its result.
2. `test_2_when_it_fails`: retries, timeouts, and what a handler can say instead of failing.
3. `test_3_exactly_once`: one job for a request that is sent twice, one job for a thing, one effect for a job.
4. `test_4_with_your_own_data`: a job in your transaction, and your rows that follow a job.
5. `test_5_when_and_whether`: later, now, not at all, again.
6. `test_6_without_an_event_loop`: the same from Django, Flask or a script.
7. `test_7_with_a_real_worker`: what only a running worker can show, such as cancelling a running job.

They run on a real Postgres and a real Redis, by the testing kit that is part of the library (`carafe.testing`):
`carafe_client` is a `Client` on a database of the test's own, `testing.inline` runs each job as soon as it is committed, and
`testing.manual` runs nothing until `drain` is called. To try one: `.venv/bin/python -m pytest tests/tutorial -k retried`.
"""
