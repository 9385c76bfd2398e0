"""Deliveries that fail in every way, and what becomes of them."""
