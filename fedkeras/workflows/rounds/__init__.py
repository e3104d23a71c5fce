"""Federated rounds: clients train the whole model, a strategy combines what comes back."""
