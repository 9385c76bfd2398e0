"""The web process of the briefing service. A team with its own application puts its own folder in this place."""
