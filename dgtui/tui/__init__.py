"""The screens. They never import torch, transformers, the model package or the worker: callers pass what they need."""
