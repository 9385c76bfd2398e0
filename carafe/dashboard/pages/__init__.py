"""The dashboard's pages. Each module has the router of one page, and what that page needs.

A page reads with `dashboard.model`, and acts with `dashboard.client` and `by=operator.actor`. A submitted form is answered
with a redirect (303), so that everything works without JavaScript. Must never: query the tables directly.
"""
