"""The words of a job: declaration, handlers, hooks, states, outcomes and records. Applications import them from `carafe`.

The folders that store, move and run jobs import this one; this one imports none of them.
"""
