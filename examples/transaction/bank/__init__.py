"""A bank whose transfers take place exactly once."""
