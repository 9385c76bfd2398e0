"""The settings of a process. They are validated at start-up, and all faults are reported at once."""
