"""The core of the job system as users see it, with one concept in each test. Read from `test_enqueue.py` on, it is a
tutorial."""
