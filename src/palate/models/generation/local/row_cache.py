"""The key/value cache of rows that have different lengths, and that join and leave at any step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from palate.models.attention.cpu import Segment, tree_forward

# Capacity of the smallest block, in tokens.
_SMALLEST = 64


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """The attention of a model's layers, which is the same in all of them.

    Attributes:
        layers: their number.
        heads, key_heads: of queries, and of keys and values; `heads` is a multiple of `key_heads`.
        width: of a head.
        scaling: factor on the scores.
    """

    layers: int
    heads: int
    key_heads: int
    width: int
    scaling: float


class PartialPrompt:
    """Keys and values float32 [layers, Hkv, n, d] of a prompt that is read in chunks.

    Attributes:
        done: tokens read so far.
    """

    def __init__(self, shape: AttentionShape, tokens: int) -> None:
        self._scaling = shape.scaling
        self.keys = torch.empty(shape.layers, shape.key_heads, tokens, shape.width)
        self.values = torch.empty_like(self.keys)
        self.done = 0

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention [n, H · d] of the prompt's next n tokens, of q [n, H, d] and k, v [n, Hkv, d]."""
        q, k, v = (x.transpose(0, 1).contiguous() for x in (q, k, v))
        n, done = q.shape[1], self.done
        self.keys[layer, :, done : done + n], self.values[layer, :, done : done + n] = k, v
        if done:  # the earlier chunks are a prefix, which a segment names by its range after the new tokens
            k, v = (torch.cat([new, old[layer, :, :done]], 1) for new, old in ((k, self.keys), (v, self.values)))
        part = Segment(0, n, (n, n + done))
        return tree_forward(q, k, v, [part], self._scaling, keep=False)[0].flatten(1)


class RowCache:
    """Keys and values of rows, float32. Rows of about the same length are read together.

    A row is in the smallest block that it fits into, of 64, 128, 256 … tokens, and moves to the next one when that
    is full, so less than half of what the attention reads is padding.
    """

    def __init__(self, shape: AttentionShape) -> None:
        self._shape = shape
        self._blocks: dict[int, _Block] = {}

    @property
    def rows(self) -> list[int]:
        """The rows in the order in which `attend` takes them; it changes between steps."""
        return [row for block in self._blocks.values() for row in block.rows]

    @property
    def lengths(self) -> list[int]:
        """Number of tokens of each of `rows`."""
        return [length for block in self._blocks.values() for length in block.lengths]

    def add(self, row: int, keys: Tensor, values: Tensor) -> None:
        """A new row with keys and values [layers, Hkv, n, d]."""
        capacity = block_size(keys.shape[2] + 1)
        if capacity not in self._blocks:
            self._blocks[capacity] = _Block(self._shape, capacity)
        self._blocks[capacity].add(row, keys, values)

    def remove(self, rows: Collection[int]) -> None:
        """Remove rows and give their memory back."""
        for block in self._blocks.values():
            for row in [row for row in block.rows if row in rows]:
                block.remove(row)
        self._blocks = {size: block for size, block in self._blocks.items() if block.rows}

    def begin_step(self) -> None:
        """Make space for one more token of each row; call it before `rows` and `lengths` are read for a step."""
        full = [(block, row) for block in self._blocks.values() for row in block.full_rows]
        for block, row in full:
            self.add(row, *block.read(row))
            block.remove(row)
        self.remove(())
        for block in self._blocks.values():
            block.begin_step()

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Append one token to each row and compute its attention [rows, H · d], of q [rows, H, d], k, v [rows, Hkv, d].

        The rows are in the order of `rows`.
        """
        found = []
        for block in self._blocks.values():
            n = len(block.rows)
            found.append(block.attend(layer, q[:n], k[:n], v[:n]))
            q, k, v = q[n:], k[n:], v[n:]
        return torch.cat(found)

    def end_step(self) -> None:
        """All layers have their new token."""
        for block in self._blocks.values():
            block.lengths = [length + 1 for length in block.lengths]


def block_size(tokens: int) -> int:
    """Capacity of the block in which a row of this length is."""
    return max(_SMALLEST, 1 << (tokens - 1).bit_length())


class _Block:
    """Rows of at most `capacity` tokens: keys and values [layers, slots, Hkv, capacity, d].

    The first slots are used. Unused cells are finite (zero, or what was there before): their weight is zero.
    """

    def __init__(self, shape: AttentionShape, capacity: int) -> None:
        self._shape, self._capacity = shape, capacity
        self._keys = torch.zeros(shape.layers, 1, shape.key_heads, capacity, shape.width)
        self._values = torch.zeros_like(self._keys)
        self.rows: list[int] = []
        self.lengths: list[int] = []

    @property
    def full_rows(self) -> list[int]:
        return [row for row, length in zip(self.rows, self.lengths, strict=True) if length == self._capacity]

    def add(self, row: int, keys: Tensor, values: Tensor) -> None:
        slot, n = len(self.rows), keys.shape[2]
        if slot == self._keys.shape[1]:
            self._resize(slot + max(1, slot // 2))
        self._keys[:, slot, :, :n], self._values[:, slot, :, :n] = keys, values
        self.rows.append(row)
        self.lengths.append(n)

    def read(self, row: int) -> tuple[Tensor, Tensor]:
        """Keys and values [layers, Hkv, n, d] of a row, as views."""
        slot = self.rows.index(row)
        n = self.lengths[slot]
        return self._keys[:, slot, :, :n], self._values[:, slot, :, :n]

    def remove(self, row: int) -> None:
        """The last row takes the slot."""
        slot, last = self.rows.index(row), self.rows[-1]
        if row != last:
            keys, values = self.read(last)
            n = keys.shape[2]
            self._keys[:, slot, :, :n], self._values[:, slot, :, :n] = keys, values
            self.rows[slot], self.lengths[slot] = last, n
        self.rows.pop()
        self.lengths.pop()
        if 2 * len(self.rows) < self._keys.shape[1] and self.rows:
            self._resize(len(self.rows))

    def _resize(self, slots: int) -> None:
        def resized(old: Tensor) -> Tensor:
            new = old.new_zeros(old.shape[0], slots, *old.shape[2:])
            kept = len(self.rows)
            new[:, :kept] = old[:, :kept]
            return new

        self._keys, self._values = resized(self._keys), resized(self._values)

    def begin_step(self) -> None:
        heads, longest = self._shape.key_heads, max(self.lengths) + 1
        lengths = torch.tensor(self.lengths)
        # Cells of the new tokens in a layer's [slots · Hkv · capacity, d].
        first = torch.arange(len(self.rows) * heads).view(-1, heads) * self._capacity
        self._cells = (first + lengths[:, None]).flatten()
        beyond = torch.arange(longest) > lengths[:, None]
        self._padding = torch.zeros(beyond.shape).masked_fill_(beyond, float("-inf"))[:, None, None]
        self._longest = longest

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        n, h, d = len(self.rows), self._shape.key_heads, self._shape.width
        g = self._shape.heads // h  # query heads of a key head
        keys, values = self._keys[layer], self._values[layer]
        keys.view(-1, d).index_copy_(0, self._cells, k.reshape(-1, d))
        values.view(-1, d).index_copy_(0, self._cells, v.reshape(-1, d))
        seen_keys, seen_values = (x[:n].view(n * h, -1, d)[:, : self._longest] for x in (keys, values))
        query = q.reshape(n * h, g, d)
        scores = query.new_empty(n, h, g, self._longest).copy_(self._padding).view(n * h, g, self._longest)
        scores.baddbmm_(query, seen_keys.transpose(1, 2), alpha=self._shape.scaling)
        return torch.bmm(torch.softmax(scores, dim=-1), seen_values).view(n, h * g * d)
