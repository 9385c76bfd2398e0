"""The read model: what the dashboard's pages, the HTTP API and the command line show of the system.

Guarantees: the read model only reads, in bounded statements, and from Postgres (durable state, never passing events). So
what it shows is true after any restart.
Must never: scan a table of jobs, or ask the cluster's API server or a worker anything.
"""
