"""Keeps open pages up to date: snapshots of the current state, and event streams that announce changes."""
