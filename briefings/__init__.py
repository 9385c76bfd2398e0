"""The first domain: briefings, each written by a background job. Shared by the web process and the worker.

Imports neither `app` nor `worker`; a team with a domain of its own puts it in this folder's place.
"""
