"""Token-by-token inference with a KV cache: GPT-2 from packed weights, and transformers' own forward.

A decoder holds weights and nothing else, so several threads may use one at the same time. What changes from token to
token, the KV cache above all, is in a `DecoderState`, which belongs to the caller that started it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from functools import partial
from inspect import signature
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, Self, cast

import torch
from torch.nn import functional

from epigone.backend import Linear, choose_int8_matmul, computes_bf16, has_amx, pack_linear
from epigone.errors import SettingsError
from epigone.hardware import Hardware
from epigone.model.kernel import CompiledModel, Slots, load_kernel
from epigone.model.weights import PREFIX, Weights, is_plain, quantize_rows, read_weights

if TYPE_CHECKING:
    from transformers import DynamicCache, GPT2LMHeadModel


WeightFormat = Literal["fp32", "bf16", "int8"]
SMALL_PARAMETERS = 20_000_000
"""With fewer weights than this bf16's longer calls cost more than it saves, while the rows are few."""
MANY_ROWS = 24
"""From so many rows on a product in bf16, or fp32, is faster than one in int8 (docs/dev/findings.md). With AMX than
the kernel, too; without it, the kernel is faster for any number of texts, and torch for prompts."""
MOST_PADDED = 8
"""Rows that a product may get so that its rows do not depend on their number; more would cost too much."""


# -- the interface


class DecoderState(Protocol):
    """Texts that began together and are decoded together, one row each, with their KV caches.

    Used by one thread at a time and, like the decoder, called in inference mode.
    """

    logits: torch.Tensor
    """After the last token of each text at its beginning: fp32 [rows, vocabulary]. `step` returns those that follow."""

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """Read one token more of each text: the logits of the next, fp32 [rows, vocabulary]. ids: int64 [rows].

        Raises ValueError where a row has no room left.
        """

    @property
    def room_left(self) -> int:
        """Tokens that each row can still read."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order, which is the one that they have."""

    def copy(self) -> Self:
        """The same texts once more, to go on otherwise."""


class Decoder(Protocol):
    """A causal language model that is read token by token. It has no state; its methods need inference mode."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def n_positions(self) -> int:
        """Tokens of a text that it can read: the length of its context."""

    def count_bytes(self, room: int) -> int:
        """Memory that each text takes with room for `room` tokens, its next token's logits and probabilities too."""

    def begin(self, ids: torch.Tensor, room: int, count: int) -> DecoderState:
        """Read (prefill) `count` texts, with room for `room` tokens each: `logits` of the state are those that follow.

        ids: int64 [count, time], or [1, time] where all texts begin alike. There is never room for more than a context.
        """

    def step_together(self, states: Sequence[Any], ids: torch.Tensor) -> torch.Tensor:
        """What `step` of each of these states gives, for all at once: fp32 [rows, vocabulary]. ids: int64 [rows].

        Products with the weights, which take most of the time, are computed for all rows together; the attention of
        each state is its own. So a row gets the same numbers whatever is decoded beside it, to the last bit where a
        row of a product does not depend on the number of rows: with weights in int8 and bf16 (docs/dev/findings.md).
        """

    def read_all(self, ids: torch.Tensor) -> torch.Tensor:
        """The logits after each token of texts: fp32 [count * time, vocabulary]. ids: int64 [count, time]."""


# -- GPT-2 from packed weights

Pack = Callable[[torch.Tensor, torch.Tensor | None], Linear]
"""The product with a matrix [in, out] and a bias."""


class Layer:
    """One block's norms and packed matrices."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], number: int, pack: Pack) -> None:
        def find(name: str) -> tuple[torch.Tensor, torch.Tensor]:
            return _find(tensors, f"h.{number}.{name}")

        self.first, self.second = find("ln_1"), find("ln_2")
        self.attention, self.out = pack(*find("attn.c_attn")), pack(*find("attn.c_proj"))
        self.n_inner = len(find("mlp.c_proj")[0])
        self.widen, self.narrow = pack(*find("mlp.c_fc")), pack(*find("mlp.c_proj"))


class FastDecoder:
    """GPT-2 with as few operations a step as the model allows.

    At these sizes the time goes into moving the weights through memory, and into the calls themselves: where there is a
    compiler, a step of few rows is one call of a C kernel. Memory for keys and values is allocated once for each text.
    """

    def __init__(self, weights: Weights, form: WeightFormat = "fp32") -> None:
        """With `form` "fp32" the tensors themselves are used, otherwise packed copies of them, by the kernel too."""
        config, tensors = weights
        self.n_positions, self.n_head, self.width = config.n_positions, config.n_head, config.n_embd
        self._tokens, self._positions = (tensors[f"{PREFIX}{name}.weight"].detach() for name in ("wte", "wpe"))
        self.epsilon, self.device = config.layer_norm_epsilon, self._tokens.device
        self._compiled = _compile(weights, form)
        self._most_compiled_rows = MANY_ROWS - 1 if has_amx() else sys.maxsize
        self._most_read = MANY_ROWS - 1
        """Tokens of prompts that the kernel reads; more of them torch reads faster."""
        pack = partial(_pack, form=form, many_rows=self._compiled is not None)
        self._layers = [Layer(tensors, number, pack) for number in range(config.n_layer)]
        self._norm = _find(tensors, "ln_f")
        self._head = pack(weights.head.detach().t(), None)
        # On a processor without AMX, torch's attention over keys in bf16 takes two to four times as long as in fp32
        # (findings). The kernel's are in bf16 on every one: reading them takes half of a step of many rows.
        half_attention = form != "fp32" and (self.device.type != "cpu" or has_amx())
        self._computed = torch.bfloat16 if half_attention else torch.float32
        """What torch computes attention in."""
        self._kept = torch.bfloat16 if self._compiled else self._computed
        self._one_by_one = False
        """Whether states that step together are computed one after another."""

    def make_rows_alike(self, most: int) -> None:
        """Let what a row gets not depend on the rows beside it, to the last bit, for up to `most` rows in a step.

        Measured with the first layer and the head. In fp32 a product of few rows is computed otherwise than one of
        many: such products get further rows. Where no number of rows helps, states are computed one after another. In
        the kernel no row depends on others, so it gets all of them.
        """
        if self._compiled:
            self._most_compiled_rows = max(self._most_compiled_rows, most)
            self._most_read = max(self._most_read, most)
            return
        layer = self._layers[0]
        sizes = {layer.attention: self.width, layer.out: self.width, layer.widen: self.width}
        sizes |= {layer.narrow: self._layers[0].n_inner, self._head: self.width}
        least = max(find_least_rows(linear, size, most, self.device) for linear, size in sizes.items())
        self._one_by_one = least > MOST_PADDED
        if 1 < least <= MOST_PADDED:
            self._head = pad_rows(self._head, least)
            for layer in self._layers:
                layer.attention, layer.out = pad_rows(layer.attention, least), pad_rows(layer.out, least)
                layer.widen, layer.narrow = pad_rows(layer.widen, least), pad_rows(layer.narrow, least)

    def count_bytes(self, room: int) -> int:
        """See `Decoder`."""
        per_token = 2 * len(self._layers) * self.width * self._kept.itemsize
        return per_token * min(room, self.n_positions) + 16 * len(self._tokens)

    def begin(self, ids: torch.Tensor, room: int, count: int) -> FastState:
        """See `Decoder`."""
        cache = self.make_cache(len(ids), max(1, min(room, self.n_positions)))
        if self._compiled and ids.numel() <= self._most_read:
            logits = self._read_few(ids, cache)
        else:
            logits = self.predict(self.read(ids, cache)[:, -1])
        if len(ids) != count:
            cache.repeat(count)
            logits = logits.repeat(count, 1)
        return FastState(self, cache, logits)

    def _read_few(self, ids: torch.Tensor, cache: KVCache) -> torch.Tensor:
        """What `begin` does, by the kernel."""
        if self._compiled and len(ids) == 1:
            return self._compiled.read(Slots(cache.tensor, cache.take_slots(ids.shape[1])[0]), ids[0])
        return [self.step_caches([cache], column) for column in ids.unbind(1)][-1]

    def step_together(self, states: Sequence[FastState], ids: torch.Tensor) -> torch.Tensor:
        """See `Decoder`."""
        if self._one_by_one:
            rows = torch.split(ids, [state.cache.count for state in states])
            return torch.cat([state.step(own) for state, own in zip(states, rows, strict=True)])
        return self.step_caches([state.cache for state in states], ids)

    def step_caches(self, caches: Sequence[KVCache], ids: torch.Tensor) -> torch.Tensor:
        """Read one token of each row of these caches: the logits of the next, fp32 [rows, vocabulary]. ids: [rows]."""
        if self._compiled and len(ids) <= self._most_compiled_rows:
            return self._compiled.step([Slots(cache.tensor, cache.take_slots(1)[0]) for cache in caches], ids)
        return self.predict(self._read(ids[:, None], caches)[:, -1])

    def read_all(self, ids: torch.Tensor) -> torch.Tensor:
        """See `Decoder`."""
        unrounded = self.make_cache(len(ids), ids.shape[1], self._computed)
        return self.predict(self.read(ids, unrounded).flatten(0, 1))

    def make_cache(self, count: int, room: int, kept: torch.dtype | None = None) -> KVCache:
        """An empty one for `count` texts of at most `room` tokens. `kept`: its format, if not that of the steps."""
        shape = len(self._layers), 2, count, self.n_head, room, self.width // self.n_head
        return KVCache(shape, kept or self._kept, self.device, by_slot=count == 1 and self._compiled is None)

    def read(self, ids: torch.Tensor, cache: KVCache) -> torch.Tensor:
        """What the blocks compute of the texts' next tokens: [count, time, width]. ids: int64 [count, time].

        Their keys and values are put into the cache.
        """
        return self._read(ids, [cache])

    def _read(self, ids: torch.Tensor, caches: Sequence[KVCache]) -> torch.Tensor:
        """The same for the rows of several caches; with more than one, `time` is 1."""
        count, n_time = ids.shape
        counts = [cache.count for cache in caches]
        slots = [cache.take_slots(n_time) for cache in caches]
        x = (functional.embedding(ids, self._tokens) + self._find_positions(slots, counts)).view(-1, self.width)
        views = [cache.list_layers(*slot) for cache, slot in zip(caches, slots, strict=True)]
        for number, layer in enumerate(self._layers):
            qkv = layer.attention(self._normalise(x, layer.first)).to(self._computed)
            new = qkv.view(count, n_time, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)
            if len(caches) == 1:
                heads = _attend(new[0], new[1:], views[0][number])
            else:
                parts = zip(torch.split(new[0], counts), torch.split(new[1:], counts, 1), views, strict=True)
                heads = torch.cat([_attend(queries, pairs, view[number]) for queries, pairs, view in parts])
            x = layer.out(heads.transpose(1, 2).reshape(-1, self.width)) + x
            x = layer.narrow(functional.gelu(layer.widen(self._normalise(x, layer.second)), approximate="tanh")) + x
        return x.view(count, n_time, self.width)

    def _find_positions(self, slots: Sequence[tuple[int, int]], counts: Sequence[int]) -> torch.Tensor:
        """Embeddings of the positions of each cache's next tokens: [time, width], or [rows, 1, width] for several."""
        if len(slots) == 1:
            return self._positions[slice(*slots[0])]
        places = [start for (start, _), count in zip(slots, counts, strict=True) for _ in range(count)]
        return self._positions[places][:, None]

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, fp32 [rows, vocabulary], from what the blocks computed, [rows, width]."""
        return self._head(self._normalise(x, self._norm)).float()

    def _normalise(self, x: torch.Tensor, norm: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.layer_norm(x, (self.width,), *norm, self.epsilon)


class LayerCache(NamedTuple):
    """One layer of a cache: where the next keys and values go, [2, count, heads, time, width of a head] ..."""

    fresh: torch.Tensor
    keys: torch.Tensor
    """... and all so far, these with them: [count, heads, slots, width of a head]."""
    values: torch.Tensor


def _attend(queries: torch.Tensor, pairs: torch.Tensor, cache: LayerCache) -> torch.Tensor:
    """What new tokens take from all so far: [count, heads, time, -], as their queries. pairs: keys and values."""
    fresh, keys, values = cache
    fresh.copy_(pairs)
    return functional.scaled_dot_product_attention(
        queries, keys.to(queries.dtype), values.to(queries.dtype), is_causal=queries.shape[2] > 1
    )


class KVCache:
    """Keys and values of texts that are decoded together, [layers, 2, count, heads, slots, width of a head].

    All rows began together, so a step writes to one place.
    """

    def __init__(
        self, shape: Sequence[int], dtype: torch.dtype, device: torch.device, *, by_slot: bool = False
    ) -> None:
        """In memory each head of a text has its slots side by side, with `by_slot` all that belongs to a slot.

        That is faster for a single text where torch computes, and slower in the kernel (docs/dev/findings.md).
        """
        order = (0, 2, 4, 1, 3, 5) if by_slot else range(6)
        tensor = torch.empty([shape[place] for place in order], dtype=dtype, device=device)
        self.tensor = tensor.permute(0, 3, 1, 4, 2, 5) if by_slot else tensor
        self.end = 0
        """Slots that are filled."""

    @property
    def n_slots(self) -> int:
        """Filled or not."""
        return self.tensor.shape[4]

    @property
    def count(self) -> int:
        """Rows."""
        return self.tensor.shape[2]

    def take_slots(self, n_time: int) -> tuple[int, int]:
        """The next slots, from and to. Raises ValueError where there is no room for them."""
        if self.end + n_time > self.n_slots:
            raise ValueError(f"A text of {self.end:,} tokens has no room for {n_time:,} more.")
        self.end += n_time
        return self.end - n_time, self.end

    def list_layers(self, start: int, end: int) -> list[LayerCache]:
        """Each layer, with the slots from `start` to `end` as those of the next tokens."""
        fresh, known = self.tensor[..., start:end, :].unbind(0), self.tensor[..., :end, :]
        keys, values = (part.unbind(0) for part in known.unbind(1))
        return list(map(LayerCache, fresh, keys, values))

    def keep(self, rows: Sequence[int]) -> None:
        """Let only these rows stay, given in their order."""
        for place, row in enumerate(rows):
            if place != row:
                self.tensor[:, :, place, :, : self.end].copy_(self.tensor[:, :, row, :, : self.end])
        self.tensor = self.tensor[:, :, : len(rows)]

    def repeat(self, count: int) -> None:
        """Let its only row be `count` rows."""
        self.tensor = self.tensor.repeat_interleave(count, dim=2)

    def copy(self) -> KVCache:
        """The same once more."""
        other = copy(self)
        other.tensor = self.tensor.clone()
        return other


class FastState:
    """The state of a `FastDecoder`."""

    def __init__(self, decoder: FastDecoder, cache: KVCache, logits: torch.Tensor) -> None:
        self.decoder, self.cache, self.logits = decoder, cache, logits

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """See `DecoderState`."""
        return self.decoder.step_caches([self.cache], ids)

    @property
    def room_left(self) -> int:
        """See `DecoderState`."""
        return self.cache.n_slots - self.cache.end

    def keep(self, rows: Sequence[int]) -> None:
        """See `DecoderState`."""
        self.cache.keep(rows)
        self.logits = self.logits[list(rows)]

    def copy(self) -> FastState:
        """See `DecoderState`."""
        return FastState(self.decoder, self.cache.copy(), self.logits.clone())


# -- transformers' own forward


class ReferenceDecoder:
    """Any GPT-2 by transformers' own forward, for the variants that its config allows."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        from transformers import DynamicCache  # it takes a second to load, and other models do without

        self.model, self.n_positions, self.device = model, int(model.config.n_positions), model.device
        self.make_cache = partial(DynamicCache, config=model.config)
        known = signature(model.forward).parameters
        self._cache_name = "cache" if "cache" in known else "past_key_values"  # until transformers 5.23
        self._lock = Lock()

    def count_bytes(self, room: int) -> int:
        """See `Decoder`."""
        shape = self.model.config
        return 8 * shape.n_layer * shape.n_embd * min(room, self.n_positions) + 16 * int(shape.vocab_size)

    def begin(self, ids: torch.Tensor, room: int, count: int) -> ReferenceState:
        """See `Decoder`. Memory is taken as it is needed, whatever the `room`."""
        cache = self.make_cache()
        return ReferenceState(self, cache, count, self.read(ids.expand(count, -1), cache)[:, -1])

    def read_all(self, ids: torch.Tensor) -> torch.Tensor:
        """See `Decoder`."""
        return self.read(ids, self.make_cache(), n_kept=0).flatten(0, 1)

    def step_together(self, states: Sequence[ReferenceState], ids: torch.Tensor) -> torch.Tensor:
        """See `Decoder`. It takes as long as one after another."""
        rows = torch.split(ids, [state.count for state in states])
        return torch.cat([state.step(own) for state, own in zip(states, rows, strict=True)])

    def read(self, ids: torch.Tensor, cache: DynamicCache, n_kept: int = 1) -> torch.Tensor:
        """Logits after the last `n_kept` tokens, or all for 0: fp32 [count, -, vocabulary]. ids: [count, time]."""
        with self._lock:  # a module's training mode is the same for all threads
            was_training = self.model.training
            self.model.eval()  # type: ignore[no-untyped-call]
            try:
                named = {self._cache_name: cache}
                read = self.model(input_ids=ids, **named, use_cache=True, logits_to_keep=n_kept)
            finally:
                self.model.train(was_training)
        logits: torch.Tensor = read.logits.float()
        return logits


class ReferenceState:
    """The state of a `ReferenceDecoder`: transformers' own cache."""

    def __init__(self, decoder: ReferenceDecoder, cache: DynamicCache, count: int, logits: torch.Tensor) -> None:
        self._decoder, self._cache, self.count, self.logits = decoder, cache, count, logits

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        """See `DecoderState`."""
        n_read = int(self._cache.get_seq_length())
        if n_read >= self._decoder.n_positions:
            raise ValueError(f"A text of {n_read:,} tokens has no room for one more.")
        return self._decoder.read(ids[:, None], self._cache)[:, -1]

    @property
    def room_left(self) -> int:
        """See `DecoderState`."""
        return self._decoder.n_positions - int(self._cache.get_seq_length())

    def keep(self, rows: Sequence[int]) -> None:
        """See `DecoderState`."""
        self._cache.batch_select_indices(torch.tensor(rows, device=self.logits.device))
        self.count, self.logits = len(rows), self.logits[list(rows)]

    def copy(self) -> ReferenceState:
        """See `DecoderState`."""
        return ReferenceState(self._decoder, deepcopy(self._cache), self.count, self.logits.clone())


# -- which decoder, and which format


def choose_weight_format(asked: str, n_parameters: int, hardware: Hardware) -> WeightFormat:
    """What the weights are packed as. Raises SettingsError."""
    if asked == "int8" and hardware.device != "cpu":
        raise SettingsError("--precision int8 is for processors.", hint="Leave it out, or add --device cpu.")
    if asked != "auto":
        return cast(WeightFormat, asked)
    if hardware.device == "cpu" and load_kernel():
        return "int8"
    if hardware.bf16 and n_parameters >= SMALL_PARAMETERS:
        return "bf16"
    measured = hardware.device == "cpu" and torch.backends.cpu.get_cpu_capability().startswith("AVX")
    return "int8" if measured else "fp32"


def make_decoder(model: GPT2LMHeadModel, form: WeightFormat = "fp32") -> FastDecoder | ReferenceDecoder:
    """For a model in memory, with its LoRA adapters if it has any: the fast one where it knows the model's variant."""
    if not is_plain(model.config):
        return ReferenceDecoder(model)
    from epigone.model.lora import merge_weights

    return FastDecoder(Weights(model.config, merge_weights(model)), form)


def open_decoder(folder: Path, asked: str, hardware: Hardware) -> FastDecoder | ReferenceDecoder:
    """For the GPT-2 in a folder. Raises RunDamaged, SettingsError."""
    weights = read_weights(folder, hardware.device)
    form = choose_weight_format(asked, weights.n_parameters, hardware)
    if is_plain(weights.config):
        return FastDecoder(weights, form)
    from epigone.model.gpt2 import load_model

    return ReferenceDecoder(load_model(folder, device=hardware.device))


def _find(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's weight, which of a matrix is [in, out], and its bias."""
    return tensors[f"{PREFIX}{name}.weight"].detach(), tensors[f"{PREFIX}{name}.bias"].detach()


def _choose_half(device: torch.device) -> torch.dtype:
    """The shortest format that the device computes quickly in."""
    return torch.bfloat16 if device.type != "cpu" or computes_bf16() else torch.float32


def _compile(weights: Weights, form: WeightFormat) -> CompiledModel | None:
    """The kernel's model, for packed weights on a processor with a compiler."""
    library = load_kernel() if form != "fp32" and weights.head.device.type == "cpu" else None
    return CompiledModel(library, weights, form) if library and form != "fp32" else None


def _pack(weight: torch.Tensor, bias: torch.Tensor | None, form: WeightFormat, many_rows: bool) -> Linear:
    """The product with a matrix [in, out]; with `many_rows` it is used for many rows only."""
    if form == "fp32":
        return (lambda x: x @ weight) if bias is None else lambda x: torch.addmm(bias, x, weight)
    if form == "int8":
        return UnroundedLinear(weight, bias) if many_rows else Int8Linear(weight, bias)
    pack = partial(pack_linear, weight, bias, torch.bfloat16)
    return LazyLinear(pack) if many_rows else pack()


@torch.inference_mode()
def find_least_rows(linear: Linear, n_in: int, most: int, device: torch.device) -> int:
    """The number from which on, up to `most`, a row of a product has the same bits whatever the number of rows."""
    x = torch.randn(most, n_in, generator=torch.Generator().manual_seed(0)).to(device)
    whole = linear(x)
    unlike = [count for count in range(1, most) if not torch.equal(linear(x[:count]), whole[:count])]
    return max(unlike, default=0) + 1


def pad_rows(linear: Linear, least: int) -> Linear:
    """The same product, computed with so many rows at least."""

    def multiply(x: torch.Tensor) -> torch.Tensor:
        if len(x) >= least:
            return linear(x)
        return linear(functional.pad(x, (0, 0, 0, least - len(x))))[: len(x)]

    return multiply


class LazyLinear:
    """A product whose matrix is packed when it is first needed.

    Two threads that need it at once both pack it, to the same numbers.
    """

    def __init__(self, pack: Callable[[], Linear]) -> None:
        self._pack = pack
        self._packed: Linear | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, in] to [rows, out]."""
        self._packed = self._packed or self._pack()
        return self._packed(x)


class UnroundedLinear(LazyLinear):
    """A product of many rows with a matrix [in, out], in the shortest format that the processor computes quickly in."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        half = _choose_half(weight.device)
        rows = MANY_ROWS if half == torch.float32 else 1
        super().__init__(partial(pack_linear, weight, bias, half, expected_rows=rows))


class Int8Linear:
    """A product with a matrix [in, out] rounded to int8, with a scale for each output; of many rows without rounding.

    A prompt is read in many rows, and so is a context that moves on.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        rows, scales = quantize_rows(weight.t().float())
        self._rows, self._scales = rows.contiguous(), scales.bfloat16()
        self._bias = None if bias is None else bias.bfloat16()
        self._unrounded = UnroundedLinear(weight, bias)
        self._multiply = choose_int8_matmul()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, in] to [rows, out]."""
        if len(x) >= MANY_ROWS:
            return self._unrounded(x)
        product = self._multiply(x.bfloat16(), self._rows, self._scales)
        return product if self._bias is None else product.add_(self._bias)
