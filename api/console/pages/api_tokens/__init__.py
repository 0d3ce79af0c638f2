"""The API tokens: their list, a new one, and one of them."""
