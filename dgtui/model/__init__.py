"""Finds, packs, loads and runs models. Implements the protocols of `diffusion`."""
