"""API tokens: who may call the administrative API."""
