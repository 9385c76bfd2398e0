"""What a type checker says of applications that are built on the library."""
