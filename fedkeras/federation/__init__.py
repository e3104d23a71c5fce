"""What the server of every way to train needs; it knows no workflow and no strategy's page."""
