"""Search: from text to tokens, and from tokens to an order."""
