"""How near rebuilt images are to their originals: error, signal to noise, structure, and whether they give them away.

Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP
13(4), 2004 (SSIM), as TensorFlow has it, its window no larger than the image.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

WINDOW = 7
"""SSIM's usual 11 pixels do not fit into an image of 8 x 8."""
MOST_PSNR = 99.0
"""Decibels that stand for an image without any error."""


@dataclass(frozen=True)
class Likeness:
    """Of one rebuilt image. Errors are of pixels scaled to 0..1."""

    mse: float
    psnr: float
    """Decibels: 10 log10(1 / mse); some 20 and more is easily recognised."""
    ssim: float
    found: bool
    """Whether no other image of the data set is nearer to what was rebuilt than the original is."""


def matched(rebuilt: np.ndarray, originals: np.ndarray) -> np.ndarray:
    """Which rebuilt image (n, ...) is taken for each original (n, ...): the order of the least error together.

    A batch has no order, so that an attacker gets its images in any.
    """
    errors = ((originals[:, None] - rebuilt[None]) ** 2).reshape(len(originals), len(rebuilt), -1).mean(axis=2)
    return linear_sum_assignment(errors)[1]


def likeness(rebuilt: np.ndarray, original: np.ndarray, others: np.ndarray) -> Likeness:
    """Of one image, in 0..1; `others` (m, ...) are what else the data set holds."""
    mse = float(((rebuilt - original) ** 2).mean())
    nearest = ((others - rebuilt) ** 2).reshape(len(others), -1).mean(axis=1).min() if len(others) else np.inf
    return Likeness(mse, psnr_of(mse), _ssim(rebuilt, original), bool(mse < nearest))


def psnr_of(mse: float) -> float:
    """Decibels, at most MOST_PSNR."""
    return MOST_PSNR if mse <= 10 ** (-MOST_PSNR / 10) else float(-10 * np.log10(mse))


def _ssim(one: np.ndarray, other: np.ndarray) -> float:
    import tensorflow as tf

    window = min(WINDOW, *one.shape[:2])
    pair = (tf.constant(image, tf.float32) for image in (one, other))
    return float(tf.image.ssim(*pair, max_val=1.0, filter_size=window))
