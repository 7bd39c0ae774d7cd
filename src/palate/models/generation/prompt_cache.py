"""Keys and values of a batch whose rows share prompts: a prompt's are held and read once for all its samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch

# Tokens by which a buffer of answers grows when it is full.
_GROWTH = 64


class Slots:
    """Which places of a [prompts, copies] grid the present rows have; rows that ended leave holes.

    Args:
        prompts: how many.
        copies: samples of each.
    """

    def __init__(self, prompts: int, copies: int) -> None:
        self.prompts, self.copies = prompts, copies
        self._rows = torch.arange(prompts * copies)
        self._grid: torch.Tensor | None = None

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """[prompts · copies, …] from [rows, …]; a hole repeats some row."""
        return x if self._grid is None else x[self._grid]

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """[rows, …] from [prompts · copies, …]."""
        return x if self._grid is None else x[self._rows]

    def keep(self, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Go on with these of the rows, in a grid that is as small as its fullest prompt allows.

        Returns:
            For each place of the new grid the old place that moves there, int64 [prompts, copies], and the old
            numbers of the prompts that stay.
        """
        old = self._rows[kept]
        prompt = old // self.copies
        stay, prompt, counts = torch.unique_consecutive(prompt, return_inverse=True, return_counts=True)
        number = torch.arange(len(old)) - (counts.cumsum(0) - counts)[prompt]
        self.prompts, self.copies = len(stay), int(counts.max())
        self._rows = prompt * self.copies + number
        grid = (counts.cumsum(0) - counts)[:, None].repeat(1, self.copies).flatten()
        grid[self._rows] = torch.arange(len(old))
        full = len(old) == self.prompts * self.copies
        self._grid = None if full else grid
        return old[grid].view(self.prompts, self.copies), stay


class LayerCache:
    """Keys and values of one layer, float32.

    Args:
        heads: of queries.
        key_heads: of keys; `heads` is a multiple.
        width: of a head.
        scaling: factor of the scores.
    """

    def __init__(self, heads: int, key_heads: int, width: int, scaling: float) -> None:
        self._repeat, self._key_heads, self._width, self._scaling = heads // key_heads, key_heads, width, scaling

    def begin(self, slots: Slots, lengths: Sequence[int], longest: int) -> None:
        """Make room for prompts of these lengths."""
        shape = (slots.prompts, self._key_heads)
        # Turned, because the score of a query is a sum over the width.
        self._prompt_keys = torch.zeros(*shape, self._width, longest)
        self._prompt_values = torch.zeros(*shape, longest, self._width)
        beyond = torch.arange(longest) >= torch.tensor(lengths)[:, None]
        padding = torch.zeros(beyond.shape).masked_fill_(beyond, float("-inf"))
        self._padding = padding[:, None, None] if bool(beyond.any()) else None
        self._keys = torch.zeros(*shape, slots.copies, 0, self._width)
        self._values = torch.zeros(*shape, slots.copies, 0, self._width)
        self._length = 0

    def read(self, prompt: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store keys and values [Hkv, n, d] of one prompt."""
        n = keys.shape[1]
        self._prompt_keys[prompt, :, :, :n] = keys.transpose(1, 2)
        self._prompt_values[prompt, :, :n] = values

    def keep(self, moved: torch.Tensor, prompts: torch.Tensor) -> None:
        """Follow `Slots.keep`."""
        if len(prompts) < len(self._prompt_keys):
            self._prompt_keys, self._prompt_values = self._prompt_keys[prompts], self._prompt_values[prompts]
            self._padding = None if self._padding is None else self._padding[prompts]
        place = moved % self._keys.shape[2], prompts[:, None]
        self._keys = self._keys.transpose(1, 2)[place[1], place[0]].transpose(1, 2).contiguous()
        self._values = self._values.transpose(1, 2)[place[1], place[0]].transpose(1, 2).contiguous()

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, slots: Slots) -> torch.Tensor:
        """Append one token to each row, and attend to its prompt and its own tokens.

        Args:
            q: [rows, H, d], rotated.
            k, v: [rows, Hkv, d].
            slots: of the rows.

        Returns:
            [rows, H · d].
        """
        p, c, h, g, d = slots.prompts, slots.copies, self._key_heads, self._repeat, self._width
        self._append(slots.spread(k).view(p, c, h, d), slots.spread(v).view(p, c, h, d))
        query = slots.spread(q).reshape(p, c, h, g, d).transpose(1, 2).contiguous()
        longest = self._prompt_keys.shape[-1]
        shared = query.view(p * h, c * g, d)
        scores = self._prompt_scores(shared, self._prompt_keys.view(p * h, d, longest))
        own_query = query.view(p * h * c, g, d)
        keys = self._keys.view(p * h * c, -1, d)[:, : self._length]
        own = torch.baddbmm(query.new_empty(1), own_query, keys.transpose(1, 2), beta=0, alpha=self._scaling)
        weights = torch.softmax(torch.cat([scores.view(p * h * c, g, longest), own], dim=-1), dim=-1)
        out = torch.bmm(
            weights.view(p * h, c * g, -1)[..., :longest], self._prompt_values.view(p * h, longest, d)
        ).view(p * h * c, g, d)
        out.baddbmm_(weights[..., longest:], self._values.view(p * h * c, -1, d)[:, : self._length])
        return slots.gather(out.view(p, h, c, g * d).transpose(1, 2).reshape(p * c, h * g * d))

    def _prompt_scores(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """[P · Hkv, copies · G, longest], −∞ beyond a prompt's end."""
        if self._padding is None:
            return torch.baddbmm(query.new_empty(1), query, keys, beta=0, alpha=self._scaling)
        shape = len(self._padding), self._key_heads, query.shape[1], keys.shape[-1]
        scores = query.new_empty(shape).copy_(self._padding).view(len(query), query.shape[1], -1)
        return scores.baddbmm_(query, keys, alpha=self._scaling)

    def _append(self, k: torch.Tensor, v: torch.Tensor) -> None:
        """[P, copies, Hkv, d] into the buffers [P, Hkv, copies, room, d]."""
        if self._length == self._keys.shape[3]:
            room = self._keys.new_zeros(*self._keys.shape[:3], _GROWTH, self._width)
            self._keys, self._values = torch.cat([self._keys, room], 3), torch.cat([self._values, room], 3)
        self._keys[:, :, :, self._length] = k.transpose(1, 2)
        self._values[:, :, :, self._length] = v.transpose(1, 2)
        self._length += 1
