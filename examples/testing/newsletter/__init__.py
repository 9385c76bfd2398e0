"""A newsletter, and the tests of its jobs."""
