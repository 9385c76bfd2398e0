"""What Carafe exports to Prometheus, read by Prometheus itself."""
