"""U-shaped split learning without the network: the client's two ends of a model, and the middle that a server holds.

The client runs M1, the server M2, the client M3 and the loss; gradients come back the same way, and each part is
updated where it is. Neither the examples nor the labels leave the client. O. Gupta, R. Raskar, "Distributed learning of
deep neural network over multiple agents", 2018, arXiv:1810.06060; P. Vepakomma et al., "Split learning for health",
2018, arXiv:1812.00564, whose "U-shaped configuration" this is. One batch is

    activations, penalty = ends.forward(x, key=batch)  # M1
    output, more = middle.forward(activations, key=(client, batch))  # M2
    gradient, loss = ends.loss_and_gradient(output, y, penalty=penalty + more)  # M3, updated
    gradient = middle.backward(gradient, key=(client, batch))  # M2, updated
    ends.backward(gradient, key=batch)  # M1, updated

and with one client it does to the model what training it whole does, for each part has the optimizer it would have had,
every layer its own random states, and a short batch is averaged over the examples it has.
"""

from fedkeras.learning.body import Body
from fedkeras.learning.head_and_tail import HeadAndTail

__all__ = ["Body", "HeadAndTail"]
