"""The handlers, one module a domain. Importing this package is not enough: the engine imports every module in it."""
