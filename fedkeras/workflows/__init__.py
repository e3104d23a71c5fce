"""Ways to train: a folder each, with what the server does, what a client does, and what they say to each other."""
