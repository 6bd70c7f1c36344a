"""The network store: which networks there are, and which container has which address on them."""
