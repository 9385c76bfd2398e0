"""The upkeep, one service at a time. The tests call each service's rounds themselves, on real servers."""
