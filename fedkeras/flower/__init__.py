"""Flower's own ground: other Flower apps over our runtime, and our app under Flower's."""
