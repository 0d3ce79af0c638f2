"""API tokens by the thousand: their lists, and what a command on one of them costs."""
