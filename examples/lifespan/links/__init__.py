"""Links that are checked with one HTTP client for all jobs of a worker."""
