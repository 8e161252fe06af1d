"""The screens. They never import torch, transformers, the model's side or the worker: what they need is handed in."""
