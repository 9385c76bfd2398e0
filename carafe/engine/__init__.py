"""What runs jobs inside a worker: Celery's consumer hands whole batches of hints over, the ledger claims and ends, the
runner executes. A worker needs no FastAPI; this package never imports ``carafe.web``.
"""
