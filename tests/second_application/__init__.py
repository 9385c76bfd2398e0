"""Another team's application, outside the repository, that uses the wheel."""
