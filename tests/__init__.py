"""Tests against real Postgres and Valkey; nothing here sleeps or measures time."""
