"""The web side, over real HTTP against real servers."""
