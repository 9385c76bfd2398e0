"""The chaos suite: runs Carafe as processes on servers of its own, breaks things, and checks what was promised.

Start at `chaos.__main__` (``python -m chaos --seed S --minutes M``); README.md says what is broken and what is checked.
"""
