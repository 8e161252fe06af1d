"""The linear temperature schedule: hot while everything is open, cool at the end."""

import math

import numpy as np


def temperature(remaining: int, max_steps: int, t_min: float, t_max: float) -> float:
    """t_min + (t_max - t_min)·n/N with n denoising steps remaining of N, this one counted (N … 1).

    In single precision, as `generate` computes it: a last bit of difference would become a different token.
    """
    share = np.float32(remaining) / np.float32(max_steps)
    return float(np.float32(t_min) + np.float32(t_max - t_min) * share)


def entry_step(strength: float, max_steps: int) -> int:
    """Steps remaining when a canvas of which a fraction `strength` in (0, 1] is noise enters the loop: ⌈s·N⌉."""
    # k/N times N may come out a last bit above k
    return max(1, min(max_steps, math.ceil(strength * max_steps - 1e-9)))
