"""Split learning between the round loop and the model's parts: what a client answers, and the server's M2."""
