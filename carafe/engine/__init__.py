"""The part of a worker that runs jobs. Celery's consumer hands over batches of hints, the ledger claims the jobs in
Postgres, the runner executes them, and the ledger writes how they ended. A worker does not need FastAPI, since this package
never imports ``carafe.web``.
"""
