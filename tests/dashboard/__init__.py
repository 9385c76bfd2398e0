"""The dashboard's frame: who gets in, what every answer carries, streams, mounting, outages."""
