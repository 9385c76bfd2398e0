"""What Carafe tells Prometheus, read by Prometheus itself."""
