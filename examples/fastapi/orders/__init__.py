"""A shop with FastAPI: an order and the job that confirms it are stored in one transaction."""
