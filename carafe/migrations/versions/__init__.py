"""The library's schema revisions, one file for each, in order."""
