"""U-shaped split learning: clients hold the model's head and tail, their examples and labels; the server its body."""
