"""Lives of tokens, made of commands and of time, and told alike in every place that tells them."""
