"""Upkeep: small services that one leading process runs, each with its own jittered loop and bounded batches."""

from carafe.steward.steward import Steward

__all__ = ["Steward"]
