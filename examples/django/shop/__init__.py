"""A shop: an order and the job that sends its receipt are stored in one transaction."""
