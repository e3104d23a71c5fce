"""File formats: each reader turns one kind of file into arrays, and says what is wrong with it."""
