"""The command ``manage.py carafe``."""
