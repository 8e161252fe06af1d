"""The Triton kernels of a denoising step for NVIDIA GPUs, each with its reference in PyTorch.

- `packed`: 4-bit weights in the layout of the kernels: NF4, NVFP4 and integers with scales and offsets.
- `experts`: grouped products of a layer's experts, and products of single 4-bit matrices.
- `sampler`: temperature, softcap, pins, entropy, argmax, top-k, draws, acceptance.
- `norms`: RMS norm with residual, q/k norm with rotary embedding, the router.
- `ops`: all operations of a step as one object: `TRITON`, or `TORCH` for the references. Both have the same signatures
  and the same results up to rounding, so a forward is written once.
- `availability`, `self_test`: whether the kernels can run here and give the right results; if not, why.

Every operation has static shapes and never synchronises with the device, so all can be captured in a CUDA graph.
Triton is imported when a kernel is first launched. Kernels run in inference mode only: they have no gradients.
"""
