"""A GPT-2's weights in, packed once; the logits after one token more of several texts, again and again, out.

Keys and values lie in memory that is taken once. A step is as few operations as the model allows: at these sizes what
writing takes is the way of the weights through memory, and the calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch.nn import functional

from epigone.errors import SettingsError
from epigone.hardware import Hardware, computes_bf16
from epigone.model.weights import PREFIX, Weights, is_plain, read_weights

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


Product = Callable[[torch.Tensor], torch.Tensor]
"""Rows [rows, in] to [rows, out]: times a matrix, plus a bias."""
WeightFormat = Literal["fp32", "bf16", "int8"]
SMALL_PARAMETERS = 20_000_000
"""With fewer weights than this bf16's longer calls cost more than it saves, while the rows are few."""
MANY_ROWS = 24
"""From so many rows on a product in bf16, or fp32, is quicker than one in int8 (docs/dev/findings.md)."""
LEVELS = 127
"""Eight-bit weights are whole numbers from -127 to 127 times a scale for each output."""


def choose_weight_format(asked: str, n_parameters: int, hardware: Hardware) -> WeightFormat:
    """What the weights are packed as. Raises SettingsError."""
    if asked == "int8" and hardware.device != "cpu":
        raise SettingsError("--precision int8 is for processors.", hint="Leave it out, or add --device cpu.")
    if asked != "auto":
        return cast(WeightFormat, asked)
    if hardware.bf16 and n_parameters >= SMALL_PARAMETERS:
        return "bf16"
    measured = hardware.device == "cpu" and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    return "int8" if measured else "fp32"


class Layer:
    """One block's norms and packed matrices."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], number: int, form: WeightFormat) -> None:
        def find(name: str) -> tuple[torch.Tensor, torch.Tensor]:
            return _find(tensors, f"h.{number}.{name}")

        self.first, self.second = find("ln_1"), find("ln_2")
        self.attention, self.out = _pack(*find("attn.c_attn"), form), _pack(*find("attn.c_proj"), form)
        self.widen, self.narrow = _pack(*find("mlp.c_fc"), form), _pack(*find("mlp.c_proj"), form)


class Decoder:
    """The model's own function, for writing. `begin` reads the texts so far, `step` one token more of each.

    Like the other decoders it is called in inference mode.
    """

    def __init__(self, weights: Weights, form: WeightFormat = "fp32") -> None:
        """With `form` "fp32" the tensors themselves are used, else packed copies of them."""
        config, tensors = weights
        self.n_positions, self.n_head, self.width = config.n_positions, config.n_head, config.n_embd
        self._tokens, self._positions = (tensors[f"{PREFIX}{name}.weight"].detach() for name in ("wte", "wpe"))
        self.epsilon, self.device = config.layer_norm_epsilon, self._tokens.device
        self._layers = [Layer(tensors, number, form) for number in range(config.n_layer)]
        self._norm = _find(tensors, "ln_f")
        self._head = _pack(weights.head.detach().t(), None, form)
        self._kept = torch.float32 if form == "fp32" else _choose_half(self.device)
        self._cache = torch.empty(0)
        self.n_read = 0

    def count_bytes(self, room: int) -> int:
        """Memory that each text takes with room for `room` tokens, its next one's logits and chances included."""
        per_token = 2 * len(self._layers) * self.width * self._kept.itemsize
        return per_token * min(room, self.n_positions) + 16 * len(self._tokens)

    def begin(self, ids: torch.Tensor, room: int, count: int) -> torch.Tensor:
        """Read texts anew, with room for `room` tokens: logits after their last ones, fp32 [count, vocabulary].

        ids: int64 [count, time], or [1, time] where all texts begin alike.
        """
        self._make_room(len(ids), max(1, min(room, self.n_positions)))
        logits = self._foretell(self._read(ids)[:, -1])
        if len(ids) == count:
            return logits
        self._cache = self._cache.repeat_interleave(count, dim=2)
        return logits.repeat(count, 1)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another token."""
        return self.n_read >= self._cache.shape[4]

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Read one token more of each text: fp32 [count, vocabulary]. ids: int64 [count]."""
        return self._foretell(self._read(ids[:, None])[:, -1])

    def read_all(self, ids: torch.Tensor) -> torch.Tensor:
        """The logits after each token of texts: fp32 [count * time, vocabulary]. ids: int64 [count, time]."""
        self._make_room(*ids.shape)
        return self._foretell(self._read(ids).flatten(0, 1))

    def _make_room(self, count: int, room: int) -> None:
        """Keys and values: [layers, 2, count, heads, room, width of a head].

        In memory each head of a text has its positions side by side, but for one text, of which all that belongs to a
        position does (docs/dev/findings.md).
        """
        shape = [len(self._layers), 2, count, self.n_head, room, self.width // self.n_head]
        order = (0, 2, 4, 1, 3, 5) if count == 1 else range(6)
        cache = torch.empty([shape[place] for place in order], dtype=self._kept, device=self.device)
        self._cache = cache.permute(0, 3, 1, 4, 2, 5) if count == 1 else cache
        self.n_read = 0

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        """What the blocks make of the texts' next tokens: [count, time, width]. ids: int64 [count, time]."""
        count, n_time = ids.shape
        start, end = self.n_read, self.n_read + n_time
        x = (functional.embedding(ids, self._tokens) + self._positions[start:end]).view(-1, self.width)
        fresh, known = self._cache[..., start:end, :].unbind(0), self._cache[..., :end, :]
        keys, values = (part.unbind(0) for part in known.unbind(1))
        for layer, room, key, value in zip(self._layers, fresh, keys, values, strict=True):
            qkv = layer.attention(self._normalise(x, layer.first)).to(self._kept)
            new = qkv.view(count, n_time, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)
            room.copy_(new[1:])
            mixed = functional.scaled_dot_product_attention(new[0], key, value, is_causal=n_time > 1)
            x = layer.out(mixed.transpose(1, 2).reshape(-1, self.width)) + x
            x = layer.narrow(functional.gelu(layer.widen(self._normalise(x, layer.second)), approximate="tanh")) + x
        self.n_read = end
        return x.view(count, n_time, self.width)

    def _foretell(self, x: torch.Tensor) -> torch.Tensor:
        return self._head(self._normalise(x, self._norm)).float()

    def _normalise(self, x: torch.Tensor, norm: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.layer_norm(x, (self.width,), *norm, self.epsilon)


class ReferenceDecoder:
    """The same with transformers' own forward, for the variants of GPT-2 that its config allows."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        from transformers import DynamicCache  # it takes a second to load, and other models do without

        self.model, self.n_positions, self.device = model, int(model.config.n_positions), model.device
        self._make_cache = partial(DynamicCache, config=model.config)
        self._cache = self._make_cache()

    def count_bytes(self, room: int) -> int:
        """As in `Decoder`."""
        shape = self.model.config
        return 8 * shape.n_layer * shape.n_embd * min(room, self.n_positions) + 16 * int(shape.vocab_size)

    def begin(self, ids: torch.Tensor, room: int, count: int) -> torch.Tensor:
        """As in `Decoder`."""
        self._cache = self._make_cache()
        return self._read(ids.expand(count, -1))

    @property
    def is_full(self) -> bool:
        """As in `Decoder`."""
        return int(self._cache.get_seq_length()) >= self.n_positions

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """As in `Decoder`."""
        return self._read(ids[:, None])

    def read_all(self, ids: torch.Tensor) -> torch.Tensor:
        """As in `Decoder`."""
        self._cache = self._make_cache()
        return self._read(ids, 0).flatten(0, 1)

    def _read(self, ids: torch.Tensor, n_kept: int = 1) -> torch.Tensor:
        was_training = self.model.training
        self.model.eval()  # type: ignore[no-untyped-call]
        read = self.model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=n_kept)
        self.model.train(was_training)
        logits: torch.Tensor = read.logits.float()
        return logits[:, -1] if n_kept else logits


class GuidedDecoder:
    """Two models over one vocabulary as one: their log-probabilities, the first one's carried beyond the second's.

    `strength` 0 is the second model, 1 the first one, and above 1 what it has learned since is exaggerated (Liu et al.
    2021 steer so).
    """

    def __init__(self, tuned: AnyDecoder, base: AnyDecoder, strength: float) -> None:
        self.tuned, self.base, self.strength = tuned, base, strength
        self.device: torch.device = tuned.device
        self.n_positions: int = min(tuned.n_positions, base.n_positions)

    def count_bytes(self, room: int) -> int:
        """As in `Decoder`."""
        return self.tuned.count_bytes(room) + self.base.count_bytes(room)

    def begin(self, ids: torch.Tensor, room: int, count: int) -> torch.Tensor:
        """As in `Decoder`."""
        room = min(room, self.n_positions)
        return self._mix(self.tuned.begin(ids, room, count), self.base.begin(ids, room, count))

    @property
    def is_full(self) -> bool:
        """As in `Decoder`."""
        return self.tuned.is_full or self.base.is_full

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """As in `Decoder`."""
        return self._mix(self.tuned.step(ids), self.base.step(ids))

    def _mix(self, tuned: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
        return torch.lerp(base.log_softmax(-1), tuned.log_softmax(-1), self.strength)


AnyDecoder = Decoder | ReferenceDecoder | GuidedDecoder


def make_decoder(model: GPT2LMHeadModel, form: WeightFormat = "fp32") -> Decoder | ReferenceDecoder:
    """For a model that is at hand, with its adapters if it has any: the fast one where it knows the model."""
    if not is_plain(model.config):
        return ReferenceDecoder(model)
    from epigone.model.lora import merge_weights

    return Decoder(Weights(model.config, merge_weights(model)), form)


def open_decoder(folder: Path, asked: str, hardware: Hardware) -> Decoder | ReferenceDecoder:
    """For the GPT-2 in a folder. Raises RunDamaged, SettingsError."""
    weights = read_weights(folder, hardware.device)
    form = choose_weight_format(asked, weights.n_parameters, hardware)
    if is_plain(weights.config):
        return Decoder(weights, form)
    from epigone.model.gpt2 import load_model

    return ReferenceDecoder(load_model(folder, device=hardware.device))


def _find(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's weight, which of a matrix is [in, out], and its bias."""
    return tensors[f"{PREFIX}{name}.weight"].detach(), tensors[f"{PREFIX}{name}.bias"].detach()


def _choose_half(device: torch.device) -> torch.dtype:
    """The shortest format that the device computes quickly in."""
    return torch.bfloat16 if device.type != "cpu" or computes_bf16() else torch.float32


def _pack(weight: torch.Tensor, bias: torch.Tensor | None, form: WeightFormat) -> Product:
    """The product with a matrix [in, out]."""
    if form == "fp32":
        return (lambda x: x @ weight) if bias is None else lambda x: torch.addmm(bias, x, weight)
    return Int8Linear(weight, bias) if form == "int8" else _pack_rows(weight, bias, torch.bfloat16)


def _pack_rows(weight: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype) -> Product:
    """The same, computed in another format, and from oneDNN's own order of the weights where it knows that format."""
    rows, bias = weight.t().to(dtype).contiguous(), None if bias is None else bias.to(dtype)
    if rows.device.type != "cpu" or not _has_own_order(dtype):
        return lambda x: functional.linear(x.to(dtype), rows, bias)
    packed = torch.ops.mkldnn._reorder_linear_weight(rows, MANY_ROWS if dtype == torch.float32 else 1)
    return lambda x: torch.ops.mkldnn._linear_pointwise(x.to(dtype), packed, bias, "none", [], "")


def _has_own_order(dtype: torch.dtype) -> bool:
    """Whether oneDNN is there and computes in the format on this processor."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Int8Linear:
    """A product with a matrix [in, out] in whole numbers, on a scale for each output; of many rows without rounding.

    Texts begin, and the window moves on, with many rows. How those are computed is packed when it is first needed.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        rows = weight.t().float()
        scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / LEVELS
        self._rows, self._scales = (rows / scale).round().to(torch.int8).contiguous(), scale[:, 0].bfloat16()
        self._bias = None if bias is None else bias.bfloat16()
        self._pack_all = partial(_pack_rows, weight, bias, _choose_half(weight.device))
        self._whole: Product | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, in] to [rows, out]."""
        if len(x) >= MANY_ROWS:
            self._whole = self._whole or self._pack_all()
            return self._whole(x)
        product = torch._weight_int8pack_mm(x.bfloat16(), self._rows, self._scales)
        return product if self._bias is None else product.add_(self._bias)
