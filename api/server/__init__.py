"""The HTTP server: a strict protocol, worker processes, and a supervisor."""
