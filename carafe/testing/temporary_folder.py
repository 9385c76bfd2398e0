"""The temporary folder of a test run's servers, by whose name a later run finds what a killed one has left behind."""

FOLDER = "carafe-tests-"
"""How the name of the temporary folder begins."""
