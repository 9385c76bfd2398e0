"""The dashboard as a whole: access, the headers of every answer, streams, mounting, outages."""
