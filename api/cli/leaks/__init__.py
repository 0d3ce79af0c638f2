"""Commands about secrets where they do not belong."""
