"""The dashboard's pages, one module each: a router, and what it asks of the read model and the client.

A page reads through `dashboard.model` and acts through `dashboard.client`, always with `by=operator.actor`; a form is
answered 303, so that everything works without JavaScript. Must never ask the tables itself.
"""
