"""Upkeep, one service at a time, each driven by hand against real servers."""
