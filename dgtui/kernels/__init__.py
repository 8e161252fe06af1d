"""The kernels of a denoising step on an NVIDIA GPU, in Triton, each with its reference in PyTorch beside it.

- `packed`: weights in 4 bit as the kernels read them: NF4, NVFP4 and integers with scales and offsets.
- `experts`: grouped products of a layer's experts, and of single matrices in 4 bit.
- `sampler`: temperature, softcap, pins, entropy, argmax, top-k, draws, acceptance.
- `norms`: RMS norm with residual, q/k norm with rotary embedding, the router.
- `ops`: all operations of a step as one object: `TRITON`, or `TORCH` for the references. Same signatures, same results
  up to rounding. A forward is written once, against `Ops`.
- `availability`, `self_test`: whether the kernels can run here, and whether they are right here. Each says why not.

Every operation has static shapes and never waits for the device, so all of them can be captured in a CUDA graph.
Triton is imported when a kernel is first launched. Kernels run in inference mode only: they have no gradients.
"""
