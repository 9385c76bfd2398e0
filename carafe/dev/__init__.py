"""The command `carafe dev`, which runs all of Carafe for development, and the embedded servers that it uses."""
