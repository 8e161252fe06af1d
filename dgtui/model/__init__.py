"""Weights: where they come from, how they are packed, how one step runs. Implements the protocols of `diffusion`."""
