"""The clients that applications and commands use to enqueue jobs, look them up and act on them."""
