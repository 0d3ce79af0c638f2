"""API tokens over HTTP: who may call the administrative API."""
