"""The linear temperature schedule: hot at first, cool at the end."""

import math

import numpy as np


def temperature(remaining: int, max_steps: int, t_min: float, t_max: float) -> float:
    """t_min + (t_max - t_min)·n/N, with n of N denoising steps remaining, including this one (N … 1).

    In single precision like `generate`: a difference in the last bit would become a different token.
    """
    share = np.float32(remaining) / np.float32(max_steps)
    return float(np.float32(t_min) + np.float32(t_max - t_min) * share)


def entry_step(strength: float, max_steps: int) -> int:
    """Steps remaining when a canvas of which a fraction `strength` in (0, 1] is noise enters the loop: ⌈s·N⌉."""
    # in floating point, k/N times N may be slightly above k
    return max(1, min(max_steps, math.ceil(strength * max_steps - 1e-9)))
