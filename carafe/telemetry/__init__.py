"""Telemetry: a process's logs, metrics and health probes."""
