"""What every process of Carafe needs: signals, stacks, garbage collection, an identity, and metrics of its own."""
