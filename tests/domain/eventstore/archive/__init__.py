"""The store's side of the archive."""
