"""Every client trains once, or has trained already; the server collects models, logs and tables."""
