"""The decoder's forward on the tensors of transformers' modules: no module calls, no hooks, no copies.

B canvases, C positions, T = B·C, H hidden, V vocabulary, L positions of a KV buffer. Written once for
`kernels.ops.Ops`: Triton kernels on a GPU, PyTorch elsewhere. Static shapes, and no synchronisation with the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn
from torch.nn import functional

from dgtui.inference.experts import ExpertsFunction
from dgtui.kernels.ops import Ops

Product = Callable[[torch.Tensor], torch.Tensor]
"""(…, in) → (…, out)."""
MakeProduct = Callable[[nn.Module], Product]
"""Finds the product for a layer that is not a plain matrix."""

WIDEST_FUSED: Final = 256
"""Widest head that PyTorch's fused attention supports on a GPU."""


@dataclass(frozen=True, slots=True, eq=False)
class Context:
    """Data of a block for the layers of one kind: rotary tables of the canvas, and its position in the buffers."""

    cos: torch.Tensor
    "(C, d) fp32"
    sin: torch.Tensor
    "(C, d) fp32"
    start: torch.Tensor
    "() int32: first position of the canvas in the buffer, after the prefix"
    bias: torch.Tensor | None
    "(L): 0, and -inf at the positions after the canvas; None if there are none"


@dataclass(frozen=True, slots=True, eq=False)
class Buffers:
    """Keys and values of a block, [prefix | canvas], for every layer. The forward writes the canvas part."""

    keys: list[torch.Tensor]
    "(B, kv heads, L, d) each"
    values: list[torch.Tensor]
    contexts: dict[str, Context]
    "by kind of layer"

    def rows(self, count: int) -> "Buffers":
        """The buffers of the first `count` canvases."""
        return Buffers([k[:count] for k in self.keys], [v[:count] for v in self.values], self.contexts)


class Decoder:
    """The decoder of a loaded `DiffusionGemmaForBlockDiffusion`, sharing its weights.

    Matrices with the same input are joined. Their modules keep views of the result, so they still work and nothing is
    held twice.
    """

    def __init__(
        self,
        model: Any,
        ops: Ops,
        make_experts: Callable[[nn.Module], ExpertsFunction],
        make_product: MakeProduct = lambda layer: layer,
        products: torch.dtype | None = None,
    ) -> None:
        """
        Args:
            model: The model.
            ops: The operations between the products.
            make_experts: Finds the experts of a layer.
            make_product: Finds the product of a layer that is not a plain matrix.
            products: Type in which plain matrices are copied and multiplied; None for their own, without a copy.
        """
        decoder, text = model.model.decoder, model.config.text_config
        self.ops = ops
        self.embedding: torch.Tensor = decoder.embed_tokens.weight
        "(V, H), used for input, output and self-conditioning"
        self.softcap: float | None = model.final_logit_softcapping or None
        self.canvas_length: int = model.config.canvas_length
        self.kinds: Sequence[str] = text.layer_types
        self.eps: float = text.rms_norm_eps
        # In the model's own type, as transformers multiplies: 53.066 is 53 in bf16
        self._scale = float(torch.tensor(decoder.embed_tokens.scalar_embed_scale).to(self.embedding.dtype))
        self.rotary = decoder.rotary_emb
        own = decoder.self_conditioning
        self._soft_norm = own.pre_norm.weight
        self._soft_in = joined([own.gate_proj, own.up_proj], make_product, products)
        self._soft_out = joined([own.down_proj], make_product, products)
        self.norms: list[torch.Tensor] = [layer.input_layernorm.weight for layer in decoder.layers] + [
            decoder.norm.weight
        ]
        self.layers = [Layer(layer, text, ops, make_experts, make_product, products) for layer in decoder.layers]

    def buffers(self, cache: Any, length: int, rows: int, bucket: int = 1, old: Buffers | None = None) -> Buffers:
        """Build the buffers of a block.

        Args:
            cache: transformers' cache of the prefix, with a batch of one.
            length: Number of prefix ids; sliding layers hold the last of them.
            rows: Number of canvases.
            bucket: Buffers are rounded up to a multiple of this, to reuse captured graphs.
            old: Buffers to refill and return, if they have the right shapes.
        """
        prefixes = [layer.keys.shape[2] if length else 0 for layer in cache.layers]
        shapes = [
            (rows, own.kv_heads, -(-prefix // bucket) * bucket + self.canvas_length, own.width)
            for prefix, own in zip(prefixes, self.layers, strict=True)
        ]
        if old is None or [key.shape for key in old.keys] != shapes:
            old = self._empty(shapes, padded=bucket > 1)
        for layer, prefix, *own in zip(cache.layers, prefixes, old.keys, old.values, strict=True):
            for buffer, held in zip(own, (layer.keys, layer.values), strict=True):
                if prefix:
                    buffer[:, :, :prefix] = held
                buffer[:, :, prefix:] = 0  # masked positions must be finite
        for kind, context in old.contexts.items():
            self._fill(context, kind, length, prefixes[self.kinds.index(kind)])
        return old

    def _empty(self, shapes: Sequence[tuple[int, ...]], padded: bool) -> Buffers:
        empty, contexts = self.embedding.new_empty, {}
        for kind, (_, _, places, width) in zip(self.kinds, shapes, strict=True):
            cos, sin = empty((2, self.canvas_length, width), dtype=torch.float32)
            start = empty((), dtype=torch.int32)
            contexts[kind] = Context(cos, sin, start, empty(places) if padded else None)
        keys, values = ([empty(shape) for shape in shapes] for _ in range(2))
        return Buffers(keys, values, contexts)

    def _fill(self, context: Context, kind: str, length: int, prefix: int) -> None:
        device, canvas = self.embedding.device, self.canvas_length
        positions = torch.arange(length, length + canvas, device=device).unsqueeze(0)
        cos, sin = self.rotary(torch.empty(0, device=device), positions, kind)
        context.cos.copy_(cos[0])
        context.sin.copy_(sin[0])
        context.start.fill_(prefix)
        if context.bias is not None:
            context.bias[: prefix + canvas] = 0
            context.bias[prefix + canvas :] = -torch.inf

    def states(self, ids: torch.Tensor, soft: torch.Tensor, buffers: Buffers) -> torch.Tensor:
        """The decoder's output states.

        Args:
            ids: (B, C), the canvases.
            soft: (B, C, H), the last step's probabilities times the embedding; zeros in the first step.
            buffers: The block's buffers, with B rows.

        Returns:
            (B, C, H), the input of the output layer.
        """
        batch, canvas = ids.shape
        x = functional.embedding(ids, self.embedding).view(batch * canvas, -1) * self._scale
        signal = rms_norm(soft.view(x.shape) * self._scale, self.eps, self._soft_norm)
        x = rms_norm(x + self._soft_out(self.ops.gated(self._soft_in(signal))), self.eps)
        normed = rms_norm(x, self.eps, self.norms[0])
        for at, layer in enumerate(self.layers):
            context = buffers.contexts[self.kinds[at]]
            x, normed = layer(x, normed, buffers.keys[at], buffers.values[at], context, self.norms[at + 1])
        return normed.view(batch, canvas, -1)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """(…, H) → (…, V) in fp32, softcapped."""
        found = functional.linear(states, self.embedding).float()
        return found if self.softcap is None else found.div_(self.softcap).tanh_().mul_(self.softcap)


class Layer:
    """One layer. Takes the residual stream (T, H) and its norm, and returns both for the next layer."""

    def __init__(
        self,
        layer: Any,
        text: Any,
        ops: Ops,
        make_experts: Callable[[nn.Module], ExpertsFunction],
        make_product: MakeProduct,
        products: torch.dtype | None,
    ) -> None:
        attention, mlp, router = layer.self_attn, layer.mlp, layer.router
        self._ops, self._eps = ops, text.rms_norm_eps
        self.width: int = attention.head_dim
        self._heads = attention.q_proj.out_features // self.width
        self.kv_heads: int = attention.k_proj.out_features // self.width
        reads = [attention.q_proj, attention.k_proj, attention.v_proj]
        self._qkv = joined([each for each in reads if each is not None], make_product, products)
        self._out = joined([attention.o_proj], make_product, products)
        self._q_norm, self._k_norm = attention.q_norm.weight, attention.k_norm.weight
        self._mlp_in = joined([mlp.gate_proj, mlp.up_proj], make_product, products)
        self._mlp_out = joined([mlp.down_proj], make_product, products)
        self._router = joined([router.proj], make_product)
        self._expert_scale, self._k = router.per_expert_scale, int(text.top_k_experts)
        self._experts, self._attend = make_experts(layer.experts), attend
        self._reading = [
            layer.pre_feedforward_layernorm.weight,
            router.scale.detach() * router.scalar_root_size,
            layer.pre_feedforward_layernorm_2.weight,
        ]
        self._after_attention = layer.post_attention_layernorm.weight
        self._after = [layer.post_feedforward_layernorm_1.weight, layer.post_feedforward_layernorm_2.weight]
        self._post, self._scalar = layer.post_feedforward_layernorm.weight, layer.layer_scalar

    def __call__(
        self,
        x: torch.Tensor,
        normed: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        context: Context,
        next_norm: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        q = self.project(normed, keys, values, context)
        return self.finish(x, self._attend(q, keys, values, context.bias), self._scalar, next_norm)

    def project(self, normed: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, context: Context) -> torch.Tensor:
        """Writes keys and values (B, kv, L, d) from the context's start on. Returns the queries (B, heads, C, d)."""
        return self._ops.rotate(
            self._qkv(normed).view(keys.shape[0], len(context.cos), -1), self._q_norm, self._k_norm,
            context.cos, context.sin, keys, values, context.start, self._heads, self._eps,
        )  # fmt: skip

    def finish(
        self, x: torch.Tensor, seen: torch.Tensor, scalar: torch.Tensor, next_norm: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Everything after the attention, which gave `seen` (B, C, heads, d). `scalar` (1) multiplies the stream."""
        ops, eps = self._ops, self._eps
        seen = self._out(seen.view(len(x), -1))
        x, (for_mlp, for_router, for_experts) = ops.residual_norm(
            x, [(seen, self._after_attention)], None, None, self._reading, eps
        )
        mlp = self._mlp_out(ops.gated(self._mlp_in(for_mlp)))
        weights, index = ops.route(self._router(for_router), self._expert_scale, self._k)
        experts = self._experts(for_experts, index, weights)
        branches = list(zip((mlp, experts), self._after, strict=True))
        x, (normed,) = ops.residual_norm(x, branches, self._post, scalar, [next_norm], eps)
        return x, normed


def attend(q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """q (B, heads, C, d), keys and values (B, kv, L, d), bias (L) → (B, C, heads, d). No causal mask, scale 1.

    Heads that share keys are treated as further queries of one head, because every query sees every position.
    """
    batch, heads, canvas, width = q.shape
    folded = q.view(batch, keys.shape[1], -1, width)
    if width > WIDEST_FUSED and q.is_cuda:
        scores = (folded @ keys.transpose(-1, -2)).float()
        seen = (scores if bias is None else scores + bias).softmax(-1).to(values.dtype) @ values
    else:
        mask = None if bias is None else bias.expand(batch, 1, folded.shape[2], -1)
        seen = functional.scaled_dot_product_attention(folded, keys, values, mask, scale=1.0)
    return seen.view(batch, heads, canvas, width).transpose(1, 2).contiguous()


def joined(layers: Sequence[nn.Module], make_product: MakeProduct, dtype: torch.dtype | None = None) -> Product:
    """Linear layers with the same input, outputs concatenated: (…, in) → (…, sum of out).

    `dtype`: plain matrices are copied and multiplied in this type; the result has the type of the input.
    """
    plain = (layer for layer in layers if type(layer) is nn.Linear and layer.bias is None)
    weights: list[Any] = [layer.weight for layer in plain]
    if len(weights) < len(layers) or len({weight.dtype for weight in weights}) > 1:
        each = [make_product(layer) for layer in layers]
        return each[0] if len(each) == 1 else lambda x: torch.cat([product(x) for product in each], -1)
    whole: torch.Tensor = weights[0]
    if len(weights) > 1:
        whole = torch.cat([weight.detach() for weight in weights])
        at = 0
        for weight in weights:
            weight.data = whole[at : at + len(weight)]
            at += len(weight)
    if dtype is None:
        return lambda x: functional.linear(x, whole)
    narrow = whole.to(dtype)
    return lambda x: functional.linear(x.to(dtype), narrow).to(x.dtype)


def rms_norm(x: torch.Tensor, eps: float, weight: torch.Tensor | None = None) -> torch.Tensor:
    """RMS norm over the last dimension, in fp32."""
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (normed if weight is None else normed * weight.float()).to(x.dtype)
