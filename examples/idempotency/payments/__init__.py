"""Payments that a repeated request makes once."""
