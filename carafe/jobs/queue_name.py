"""The name of Carafe's only queue, which is also the Redis key under which the list of hints is stored."""

QUEUE = "default"
