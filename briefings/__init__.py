"""The domain of the sample application: briefings, each written by a background job. Web process and worker both import it.

It imports neither `app` nor `worker`. A team replaces this folder with its own domain.
"""
