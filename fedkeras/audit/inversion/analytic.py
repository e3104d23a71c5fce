"""What algebra reads off an update, without any search: the input of a dense first layer, and labels.

Phong, Aono, Hayashi, Wang, Moriai: Privacy-Preserving Deep Learning via Additively Homomorphic Encryption, IEEE TIFS
13(5), 2018, section III: for a dense layer dL/dW_ij = x_i dL/dz_j and dL/db_j = dL/dz_j, so that x_i is a quotient.
Zhao, Mopuri, Bilen: iDLG, 2020, arXiv:2001.02610: under softmax with cross-entropy dL/db_c = p_c - [c = label], which
is negative for the label alone. For several examples the mean over them holds as many of each label as
n (mean p_c - dL/db_c), where the p_c must be guessed: the model's answers to grey images stand in for them.

An update is -rate times a sum of gradients; in the quotient the factor does not matter, nor does clipping.
"""

import numpy as np


def input_of_dense(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The input (inputs,) of a dense layer, from the updates of its kernel (inputs, units) and bias (units,).

    Exact for one example and one step, up to rounding; for several a mean of them, weighted by how much they moved the
    unit that is taken, the one whose bias moved most. Zeros where no bias moved.
    """
    unit = int(np.argmax(np.abs(bias)))
    if not bias[unit]:
        return np.zeros(len(kernel))
    return np.asarray(kernel[:, unit], np.float64) / float(bias[unit])


def labels_of(bias: np.ndarray, gradient_scale: float, guessed: np.ndarray, count: int) -> np.ndarray:
    """Labels (count,), ascending, from the update (classes,) of the last layer's bias under softmax and cross-entropy.

    For one example it is the class whose bias rose, which is exact. `gradient_scale` is by what the mean gradient was
    multiplied to make the update (-rate for one step), `guessed` (classes,) what the model answers on average.
    """
    if count == 1:
        return np.array([int(np.argmax(bias))])
    left = count * (guessed - np.asarray(bias, np.float64) / gradient_scale)
    found = []
    for _ in range(count):
        found.append(int(np.argmax(left)))
        left[found[-1]] -= 1
    return np.sort(np.array(found))
