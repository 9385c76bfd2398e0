"""Tests on a real cluster (`make test-cluster`); docs/testing-on-a-cluster.md says how to run them."""
