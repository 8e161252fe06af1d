"""The kernels themselves. Importing a module here imports Triton. The launching code is in the parent package."""
