"""Turns data into what pages show: templates, texts and charts."""
