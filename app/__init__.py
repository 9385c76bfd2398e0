"""The web process of the briefing service, Carafe's sample application. A team replaces this folder with its own."""
