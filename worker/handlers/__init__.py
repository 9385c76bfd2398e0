"""The handlers, with one module for each domain. The engine imports all modules of this package to register them."""
