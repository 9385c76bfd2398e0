"""The job core as its users see it, one concept a test: read from `test_enqueue.py` on, it is a tutorial."""
