"""Every command that the documentation shows is run in its smallest form, so that none of them becomes wrong unnoticed."""
