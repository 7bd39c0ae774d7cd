"""The key/value cache of a batch: the keys and values of a prompt are stored and read once for all its samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Tokens by which a full buffer grows.
_GROWTH = 64


class Slots:
    """Maps the unfinished rows of a batch to cells of a [prompts, copies] grid; finished rows leave empty cells."""

    def __init__(self, prompts: int, copies: int) -> None:
        self.prompts, self.copies = prompts, copies
        self._rows = torch.arange(prompts * copies)
        self._grid: Tensor | None = None

    def spread(self, x: Tensor) -> Tensor:
        """[prompts · copies, …] from [rows, …]; empty cells get a copy of some row."""
        return x if self._grid is None else x[self._grid]

    def gather(self, x: Tensor) -> Tensor:
        """[rows, …] from [prompts · copies, …]."""
        return x if self._grid is None else x[self._rows]

    def keep(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Continue with these rows only (int64 indices), in the smallest grid that fits them.

        Returns for each cell of the new grid the old cell that moves there, int64 [prompts, copies], and the old
        indices of the remaining prompts.
        """
        old = self._rows[kept]
        prompt = old // self.copies
        stay, prompt, counts = torch.unique_consecutive(prompt, return_inverse=True, return_counts=True)
        number = torch.arange(len(old)) - (counts.cumsum(0) - counts)[prompt]
        self.prompts, self.copies = len(stay), int(counts.max())
        self._rows = prompt * self.copies + number
        grid = (counts.cumsum(0) - counts)[:, None].repeat(1, self.copies).flatten()
        grid[self._rows] = torch.arange(len(old))
        self._grid = None if len(old) == self.prompts * self.copies else grid
        return old[grid].view(self.prompts, self.copies), stay


class LayerCache:
    """Keys and values of one layer, float32; `heads` is a multiple of `key_heads`, `scaling` a factor on the scores."""

    def __init__(self, heads: int, key_heads: int, width: int, scaling: float) -> None:
        self._repeat, self._key_heads, self._width, self._scaling = heads // key_heads, key_heads, width, scaling

    def begin(self, slots: Slots, lengths: Sequence[int], longest: int) -> None:
        """Allocate buffers for prompts of these lengths."""
        shape = (slots.prompts, self._key_heads)
        # Keys are stored transposed, as the product with queries reads them.
        self._prompt_keys = torch.zeros(*shape, self._width, longest)
        self._prompt_values = torch.zeros(*shape, longest, self._width)
        beyond = torch.arange(longest) >= torch.tensor(lengths)[:, None]
        padding = torch.zeros(beyond.shape).masked_fill_(beyond, float("-inf"))
        self._padding = padding[:, None, None] if bool(beyond.any()) else None
        self._keys = torch.zeros(*shape, slots.copies, 0, self._width)
        self._values = torch.zeros(*shape, slots.copies, 0, self._width)
        self._length = 0

    def read(self, prompt: int, keys: Tensor, values: Tensor) -> None:
        """Store keys and values [Hkv, n, d] of one prompt."""
        n = keys.shape[1]
        self._prompt_keys[prompt, :, :, :n] = keys.transpose(1, 2)
        self._prompt_values[prompt, :, :n] = values

    def keep(self, moved: Tensor, prompts: Tensor) -> None:
        """Move and remove cells as `Slots.keep` returned: `moved` [prompts, copies], `prompts` [kept prompts]."""
        if len(prompts) < len(self._prompt_keys):
            self._prompt_keys, self._prompt_values = self._prompt_keys[prompts], self._prompt_values[prompts]
            self._padding = None if self._padding is None else self._padding[prompts]
        cell = prompts[:, None], moved % self._keys.shape[2]
        self._keys = self._keys.transpose(1, 2)[cell].transpose(1, 2).contiguous()
        self._values = self._values.transpose(1, 2)[cell].transpose(1, 2).contiguous()

    def attend(self, q: Tensor, k: Tensor, v: Tensor, slots: Slots) -> Tensor:
        """Append one token to each row and compute its attention [rows, H · d] to the prompt and its own tokens.

        q: [rows, H, d], rotated; k, v: [rows, Hkv, d].
        """
        # P prompts, C copies, Hkv key heads with G query heads each, of width d.
        p, c, h, g, d = slots.prompts, slots.copies, self._key_heads, self._repeat, self._width
        self._append(slots.spread(k).view(p, c, h, d), slots.spread(v).view(p, c, h, d))
        query = slots.spread(q).reshape(p, c, h, g, d).transpose(1, 2).contiguous()
        longest = self._prompt_keys.shape[-1]
        # All copies of a prompt are queries of one product, so its keys are read once.
        scores = self._prompt_scores(query.view(p * h, c * g, d), self._prompt_keys.view(p * h, d, longest))
        own_query = query.view(p * h * c, g, d)
        keys = self._keys.view(p * h * c, -1, d)[:, : self._length]
        own = torch.baddbmm(query.new_empty(1), own_query, keys.transpose(1, 2), beta=0, alpha=self._scaling)
        weights = torch.softmax(torch.cat([scores.view(p * h * c, g, longest), own], dim=-1), dim=-1)
        out = torch.bmm(
            weights.view(p * h, c * g, -1)[..., :longest], self._prompt_values.view(p * h, longest, d)
        ).view(p * h * c, g, d)
        out.baddbmm_(weights[..., longest:], self._values.view(p * h * c, -1, d)[:, : self._length])
        return slots.gather(out.view(p, h, c, g * d).transpose(1, 2).reshape(p * c, h * g * d))

    def _prompt_scores(self, query: Tensor, keys: Tensor) -> Tensor:
        """Scaled scores [P · Hkv, copies · G, longest], −∞ beyond a prompt's end; query [P · Hkv, copies · G, d]."""
        if self._padding is None:
            return torch.baddbmm(query.new_empty(1), query, keys, beta=0, alpha=self._scaling)
        shape = len(self._padding), self._key_heads, query.shape[1], keys.shape[-1]
        scores = query.new_empty(shape).copy_(self._padding).view(len(query), query.shape[1], -1)
        return scores.baddbmm_(query, keys, alpha=self._scaling)

    def _append(self, k: Tensor, v: Tensor) -> None:
        """Write k, v [P, copies, Hkv, d] into the buffers [P, Hkv, copies, capacity, d]."""
        if self._length == self._keys.shape[3]:
            empty = self._keys.new_zeros(*self._keys.shape[:3], _GROWTH, self._width)
            self._keys, self._values = torch.cat([self._keys, empty], 3), torch.cat([self._values, empty], 3)
        self._keys[:, :, :, self._length] = k.transpose(1, 2)
        self._values[:, :, :, self._length] = v.transpose(1, 2)
        self._length += 1
