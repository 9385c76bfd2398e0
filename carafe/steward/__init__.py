"""The steward does the upkeep of a Carafe installation, such as queueing due jobs and deleting old ones. It is a set of
small services, each with a jittered loop and bounded batches. They run in one process at a time, the leader."""

from carafe.steward.steward import Steward

__all__ = ["Steward"]
