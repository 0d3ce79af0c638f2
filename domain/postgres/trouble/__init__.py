"""What is told of a database that cannot be used, or that keeps us waiting."""
