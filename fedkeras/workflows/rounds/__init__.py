"""Federated rounds: clients train the whole model, a strategy combines what comes back.

    server    a round: the strategy's messages, the replies checked, the new global arrays, their evaluation
    client    initial weights, training, evaluation

They speak Flower's own train and evaluate messages, which any strategy of Flower's makes; so there is no protocol here.
"""
