"""Federated learning for people who work in Keras, as a Flower application.

`fedkeras.data` is where examples come from, `fedkeras.strategies` what a server does with updates, `fedkeras.server`
and `fedkeras.client` are the two programs. In the repository these four lie at the top, where a reader looks for them.
"""

from fedkeras.checkout import make_importable

make_importable()
