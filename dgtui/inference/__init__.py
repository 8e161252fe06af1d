"""How a denoising step runs: the decoder's forward over the loaded tensors, and the stepper that stays on the device.

- `forward`: embedding, layers and output states, over a KV buffer [prefix | canvas] that is written in place.
- `experts`: the experts of a layer, one function for each way of holding and multiplying them.
- `cpu`: the operations between the products as the CPU does them fastest; the kernels are `dgtui.kernels`.
- `sampling`: from states to entropies, drafts, draws and soft embeddings, with or without holding all logits.
- `stepper`: the device stepper. `denoiser`: the same forward behind the reference stepper.
- `graphs`: the step as a captured CUDA graph.
- `choice`: which of them run here, and why not the faster ones.

transformers' own class stays the reference, and what runs where none of this can.
"""
