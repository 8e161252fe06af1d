"""The kernels themselves. Importing a module here imports Triton; what launches them lies in the folder above."""
