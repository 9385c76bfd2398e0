"""There are no models here. Django sends ``post_migrate`` only to applications that have this module."""
