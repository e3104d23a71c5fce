"""A Flower app made of scikit-learn."""
