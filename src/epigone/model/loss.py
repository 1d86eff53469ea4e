"""Training loss of a stock GPT-2: next-token cross-entropy, computed in fewer and larger operations than transformers.

transformers' forward computes the same, but with a small model on a processor most of its time goes into dropout's
random numbers and into passing over memory between the matrix products. Here dropout draws eight numbers at a time,
GELU is written with the cheaper of two equal formulas, and torch.compile fuses what stands between the products.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from epigone.model.lora import find_weight
from epigone.model.size import Attention
from epigone.model.weights import is_plain

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


Compilation = Literal["off", "layers", "full"]
"""What torch.compile is given: nothing, one layer, which serves for all of them, or the whole function."""
Tensors = tuple[torch.Tensor, ...]
BlockFunction = Callable[..., Any]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ROWS = 64
"""The head is multiplied with so many rows, or a multiple, of which the last may be zeros: kernels like round sizes."""
LEVELS = 256
"""Dropout on a processor compares random bytes, so its rate is a multiple of 1/256."""
TEACHER_SHARE = 0.5
"""Weight of the cross-entropy with a teacher's predictions, next to that with the text."""
SMALLEST = torch.iinfo(torch.int64).min
"""Without it `random_` leaves out the highest bit of an int64."""


class BlockConfig(NamedTuple):
    """What is the same for all blocks. `mask` is fp32 [time, time] for plain attention, None for the fused one."""

    n_head: int
    epsilon: float
    dropout: float
    dtype: torch.dtype
    mask: torch.Tensor | None


class LossParts(NamedTuple):
    """The loss of a batch: fp32 scalars. Without a teacher both are the same."""

    objective: torch.Tensor
    """What the gradient is taken of."""
    nats: torch.Tensor
    """Mean nats per token of the text."""


class NextTokenLoss(nn.Module):
    """The mean loss of next-token prediction, with dropout as in the model's config while that is in training mode.

    With a teacher, part of the objective is the cross-entropy with its predictions (Hinton et al. 2015,
    "Distilling the knowledge in a neural network"; with one of the same size, Furlanello et al. 2018, "Born-again
    neural networks").
    """

    def __init__(
        self,
        model: GPT2LMHeadModel,
        *,
        attention: Attention = "sdpa",
        dtype: torch.dtype = torch.float32,
        compile: Compilation = "off",
        teacher: GPT2LMHeadModel | None = None,
        checkpoints: bool = False,
    ) -> None:
        """`dtype` is that of the matrix products; sums, norms, softmax and the loss stay in fp32.

        `checkpoints`: whether the backward pass computes each block again, instead of keeping all that is in it.
        """
        super().__init__()
        self.model, self.attention, self.dtype, self.checkpoints = model, attention, dtype, checkpoints
        self.blocks: nn.ModuleList | None = None
        self.teacher = None if teacher is None else teacher.requires_grad_(False)
        functions: tuple[BlockFunction, BlockFunction] = compute_loss, predict
        self._whole, self._predict = map(compile_once, functions) if compile == "full" else functions
        parts: tuple[BlockFunction, BlockFunction] = block_forward, measure_loss
        self._parts = (compile_once(parts[0]), compile_once(parts[1])) if compile == "layers" else parts
        if checkpoints:
            self._parts = partial(compute_again, self._parts[0]), self._parts[1]

    @property
    def is_written_out(self) -> bool:
        """Whether the loss is computed here, and not by transformers as for an unusual config."""
        config = self.model.config
        return is_plain(config) and not config.attn_pdrop and config.embd_pdrop == config.resid_pdrop

    def call_blocks(self) -> nn.ModuleList:
        """From now on each block is called as a module, which may gather its weights before; those modules."""
        inner, measure = self._parts
        if self.checkpoints:  # around the module, so that it gathers its weights again
            self._parts, inner = (partial(compute_again, call_block), measure), inner.args[0]  # type: ignore[attr-defined]
        else:
            self._parts = call_block, measure
        self.blocks = nn.ModuleList(BlockCall(block, inner) for block in self.model.transformer.h)
        return self.blocks

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> LossParts:
        """The loss of a batch. ids, targets: int64 [batch, time]."""
        hints = None if self.teacher is None else self._ask(self.teacher, ids)
        config = self.model.config
        if not self.is_written_out:
            logits = self.model(input_ids=ids, use_cache=False).logits
            return LossParts(*combine_losses(logits.flatten(0, 1).float(), targets, hints))
        dropout = config.resid_pdrop if self.model.training else 0.0
        noise = None
        if dropout and ids.device.type == "cpu":
            noise = draw_bytes(2 * config.n_layer + 1, *ids.shape, config.n_embd)
        manner, weights = self._block_config(self.model, ids, dropout), self._list_weights()
        with torch.autocast(ids.device.type, enabled=False):  # the casts are written out
            return LossParts(*self._whole((ids, targets), weights, noise, manner, self._parts, hints))

    def _list_weights(self) -> tuple[Tensors, list[Any]]:
        """The weights outside the blocks, and those of each block, or the module that has them."""
        if self.blocks is None:
            return list_all_weights(self.model)
        return list_outer_weights(self.model), list(self.blocks)

    @torch.no_grad()
    def _ask(self, teacher: GPT2LMHeadModel, ids: torch.Tensor) -> torch.Tensor:
        """The teacher's probabilities: fp32 [batch times time, vocabulary]."""
        with torch.autocast(ids.device.type, enabled=False):
            manner = self._block_config(teacher, ids, 0.0)
            predictions: torch.Tensor = self._predict(ids, list_all_weights(teacher), manner, self._parts[0])
            return predictions

    def _block_config(self, model: GPT2LMHeadModel, ids: torch.Tensor, dropout: float) -> BlockConfig:
        mask = make_mask(ids.shape[1], ids.device) if self.attention == "eager" else None
        return BlockConfig(model.config.n_head, model.config.layer_norm_epsilon, dropout, self.dtype, mask)


@cache
def compile_once(function: BlockFunction) -> BlockFunction:
    """The compiled function, one for all models: equal shapes are compiled once in a process."""
    torch._dynamo.config.recompile_limit = 64  # after so many other shapes it would be left uncompiled
    compiled: BlockFunction = torch.compile(function, dynamic=False)
    return compiled


@cache
def make_mask(n_positions: int, device: torch.device) -> torch.Tensor:
    """What to add to attention's scores: fp32 [time, time], minus infinity where a later position is looked at."""
    return torch.full((n_positions, n_positions), -torch.inf, device=device).triu(1)


def list_all_weights(model: GPT2LMHeadModel) -> tuple[Tensors, list[Tensors]]:
    """The weights outside the blocks, in the order in which `forward` takes them, and those of each block."""
    return list_outer_weights(model), [list_weights(block) for block in model.transformer.h]


def list_outer_weights(model: GPT2LMHeadModel) -> Tensors:
    """The weights outside the blocks, in the order in which `forward` takes them."""
    body = model.transformer
    return body.wte.weight, body.wpe.weight, body.ln_f.weight, body.ln_f.bias, model.lm_head.weight


def list_weights(block: Any) -> Tensors:
    """A block's weights, in the order in which `block_forward` takes them."""
    layers = (block.ln_1, block.attn.c_attn, block.attn.c_proj, block.ln_2, block.mlp.c_fc, block.mlp.c_proj)
    return tuple(weight for layer in layers for weight in (find_weight(layer), layer.bias))


class BlockCall(nn.Module):
    """A block that is called as a module."""

    def __init__(self, block: nn.Module, pass_one: BlockFunction) -> None:
        super().__init__()
        self.block, self._pass_one = block, pass_one

    def forward(self, x: torch.Tensor, noise: Any, manner: BlockConfig) -> torch.Tensor:
        """As `block_forward`, with the block's weights as they are now."""
        found: torch.Tensor = self._pass_one(x, list_weights(self.block), noise, manner)
        return found


def call_block(x: torch.Tensor, block: nn.Module, noise: Any, manner: BlockConfig) -> torch.Tensor:
    """In place of `block_forward`."""
    found: torch.Tensor = block(x, noise, manner)
    return found


def compute_again(pass_one: BlockFunction, *arguments: Any) -> torch.Tensor:
    """The same, but what is in the block is computed again for the gradient (Chen et al. 2016)."""
    found: torch.Tensor = checkpoint(pass_one, *arguments, use_reentrant=False)
    return found


# -- dropout


def draw_bytes(*shape: int) -> torch.Tensor:
    """Random bytes from torch's global generator, eight to a draw: uint8 [shape]."""
    n_bytes = torch.Size(shape).numel()
    words = torch.empty(-(-n_bytes // 8), dtype=torch.int64).random_(SMALLEST, None)
    return words.view(torch.uint8)[:n_bytes].view(shape)


def dropout(x: torch.Tensor, noise: torch.Tensor | None, dropout: float) -> torch.Tensor:
    """Dropout (Srivastava et al. 2014) where bytes of noise, of x's shape, fall below the rate; fp32.

    Comparing them as floats is what makes the compiled loop twice as fast: bytes are not compared in vectors.
    """
    if noise is None:
        return functional.dropout(x, dropout) if dropout else x
    threshold = min(LEVELS - 1, round(dropout * LEVELS))
    kept = (noise.float() >= threshold - 0.5).float()
    return x.float() * (kept * (LEVELS / (LEVELS - threshold)))


# -- the function


def compute_loss(
    batch: tuple[torch.Tensor, torch.Tensor],
    weights: tuple[Tensors, list[Tensors]],
    noise: torch.Tensor | None,
    manner: BlockConfig,
    parts: tuple[BlockFunction, BlockFunction],
    hints: torch.Tensor | None = None,
) -> Tensors:
    """The loss, as `combine_losses` gives it. noise: as `forward` takes it."""
    pass_one, measure = parts
    x = forward(batch[0], weights, noise, manner, pass_one)
    losses: Tensors = measure(x, weights[0][2:], batch[1], manner, hints)
    return losses


def predict(
    ids: torch.Tensor, weights: tuple[Tensors, list[Tensors]], manner: BlockConfig, pass_one: BlockFunction
) -> torch.Tensor:
    """The probabilities of the next tokens: fp32 [batch times time, vocabulary]."""
    return compute_logits(forward(ids, weights, None, manner, pass_one), weights[0][2:], manner).softmax(-1)


def forward(
    ids: torch.Tensor,
    weights: tuple[Tensors, list[Tensors]],
    noise: torch.Tensor | None,
    manner: BlockConfig,
    pass_one: BlockFunction,
) -> torch.Tensor:
    """What the last block gives: fp32 [batch, time, width].

    noise: uint8 [2 layers + 1, batch, time, width], or None where torch's own dropout draws.
    """
    (wte, wpe, *_), blocks = weights
    x = functional.embedding(ids, wte) + wpe[: ids.shape[1]]
    x = dropout(x, None if noise is None else noise[0], manner.dropout)
    for number, block in enumerate(blocks):
        own = None if noise is None else (noise[2 * number + 1], noise[2 * number + 2])
        x = pass_one(x, block, own, manner)
    return x


def block_forward(
    x: torch.Tensor, weights: Tensors, noise: tuple[torch.Tensor, torch.Tensor] | None, manner: BlockConfig
) -> torch.Tensor:
    """One GPT-2 block: attention, then the perceptron. x: fp32 [batch, time, width]."""
    norm_1, shift_1, attention, bias, out, out_bias, norm_2, shift_2, *perceptron = weights
    width, epsilon, dtype = x.shape[-1], manner.epsilon, manner.dtype
    first, second = noise or (None, None)
    h = functional.layer_norm(x, (width,), norm_1, shift_1, epsilon).to(dtype)
    h = causal_attention(conv1d(h, attention, bias, dtype), manner)
    x = x + dropout(conv1d(h, out, out_bias, dtype), first, manner.dropout)
    h = functional.layer_norm(x, (width,), norm_2, shift_2, epsilon).to(dtype)
    h = gelu(conv1d(h, perceptron[0], perceptron[1], dtype))
    return x + dropout(conv1d(h, perceptron[2], perceptron[3], dtype), second, manner.dropout)


def conv1d(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What transformers' Conv1D does: x times a matrix that is stored [in, out], plus a bias."""
    product = torch.addmm(bias.to(dtype), x.view(-1, x.shape[-1]), weight.to(dtype))
    return product.view(*x.shape[:-1], weight.shape[-1])


def causal_attention(qkv: torch.Tensor, manner: BlockConfig) -> torch.Tensor:
    """Causal attention over queries, keys and values that stand side by side: [batch, time, 3 width] to [.., width]."""
    n_batch, n_time, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    shape = (n_batch, n_time, manner.n_head, width // manner.n_head)
    query, key, value = (part.view(shape).transpose(1, 2) for part in qkv.chunk(3, dim=2))
    if manner.mask is None:
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    else:
        scores = (query @ key.transpose(-1, -2)).float() * shape[-1] ** -0.5 + manner.mask
        mixed = scores.softmax(-1).to(value.dtype) @ value
    return mixed.transpose(1, 2).reshape(n_batch, n_time, width)


def gelu(x: torch.Tensor) -> torch.Tensor:
    """0.5 x (1 + tanh u) equals x sigmoid(2 u), and one exponential is cheaper than a tanh."""
    return x * torch.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))


def measure_loss(
    x: torch.Tensor, weights: Tensors, targets: torch.Tensor, manner: BlockConfig, hints: torch.Tensor | None = None
) -> Tensors:
    """The last norm, the head and the mean cross-entropy, as `combine_losses` gives it."""
    return combine_losses(compute_logits(x, weights, manner), targets, hints)


def compute_logits(x: torch.Tensor, weights: Tensors, manner: BlockConfig) -> torch.Tensor:
    """The last norm and the head: [batch, time, width] to fp32 [batch times time, vocabulary]."""
    norm, shift, head = weights
    h = functional.layer_norm(x, (x.shape[-1],), norm, shift, manner.epsilon).to(manner.dtype)
    whole = functional.pad(head.to(manner.dtype), (0, 0, 0, -len(head) % ROWS))
    return (h.view(-1, x.shape[-1]) @ whole.t())[:, : len(head)].float()


def combine_losses(logits: torch.Tensor, targets: torch.Tensor, hints: torch.Tensor | None) -> Tensors:
    """What the gradient is taken of, and the mean nats per token of the text: scalars, as in `LossParts`.

    logits, and hints, which are a teacher's probabilities: fp32 [batch times time, vocabulary].
    """
    nats = functional.cross_entropy(logits, targets.flatten())
    if hints is None:
        return nats, nats
    return torch.lerp(nats, functional.cross_entropy(logits, hints), TEACHER_SHARE), nats
