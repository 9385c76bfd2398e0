"""What is shown of the system: one read model for the dashboard's pages, the HTTP API and the command line.

Guarantees: it only reads, from Postgres (durable state, never passing events), in bounded statements; what it tells is
true after any restart.
Must never: scan a table of jobs, or ask the cluster's API server or a worker anything.
"""
