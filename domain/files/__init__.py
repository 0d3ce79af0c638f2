"""Files that are written as a whole."""
