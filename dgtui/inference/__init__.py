"""Runs denoising steps fast: the decoder's forward on the loaded tensors, and a stepper that stays on the device.

- `forward`: embedding, layers and output states, on a KV buffer [prefix | canvas] that is written in place.
- `experts`: the experts of a layer, one function for each way of holding and multiplying them.
- `cpu`: the operations between matrix products in their fastest form for the CPU; the GPU kernels are `dgtui.kernels`.
- `sampling`: computes entropies, drafts, draws and soft embeddings from states, with or without holding all logits.
- `stepper`: the device stepper. `denoiser`: the same forward for the reference stepper.
- `graphs`: the step as a captured CUDA graph.
- `grid_solver`: a stepper that checks the rules of Sudoku. `routed`: gives a prompt to the stepper that is made for it.
- `choice`: selects the fastest of them that works here, and keeps the reasons against faster ones.

transformers' own class is the reference, and the fallback if none of these works.
"""
