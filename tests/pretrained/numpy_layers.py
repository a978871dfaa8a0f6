"""Layers in NumPy, float64, written from their definitions."""

import numpy as np


def windows(x, size, stride, padding):
    """x [B, H, W, C] -> [B, H', W', C, size, size]; "SAME" as in TensorFlow: ceil(H / stride), the odd zero behind."""
    if padding == "SAME":
        total = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[1:3]]
        x = np.pad(x, ((0, 0), *[(t // 2, t - t // 2) for t in total], (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, ::stride, ::stride]


def conv(x, w, stride=1, padding="SAME"):
    """w [h, w, I, O]."""
    return np.einsum("bijcyx,yxco->bijo", windows(x, w.shape[0], stride, padding), w)


def depthwise(x, w, stride=1):
    """w [h, w, C]."""
    return np.einsum("bijcyx,yxc->bijc", windows(x, w.shape[0], stride, "SAME"), w)


def relu(x, top=np.inf):
    return np.minimum(np.maximum(x, 0), top)
