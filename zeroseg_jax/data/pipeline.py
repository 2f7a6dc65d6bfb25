"""The grain chain: shuffle, repeat, batch, host slice. Batch t is a pure function of (seed, t)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grain
import numpy as np

from zeroseg_jax.data.sources import Source
from zeroseg_jax.data.transforms import ImageError, cut_views, square_crop

_KEYS = ("image", "features", "views", "fused", "local", "index")


class LiveViews:
    """A source of training squares and views, for a teacher that runs inside training.

    Every image is looked at once at the start: one that cannot be read is left out, by name,
    so that an epoch never dies and nothing goes missing unseen.

    Attributes:
      skipped: what was left out, with the reason.
    """

    def __init__(self, source: Source, *, image_px: int, windows: list, view_px: int):
        self._source, self._image_px = source, image_px
        self._windows, self._view_px = windows, view_px
        self._indices, self.skipped = [], []
        for index in range(len(source)):
            try:
                source[index]
                self._indices.append(index)
            except ImageError as error:
                self.skipped.append(str(error))

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._source[self._indices[index]]
        return {
            "image": square_crop(record["image"], self._image_px),
            "views": cut_views(record["image"], self._windows, self._view_px),
            "index": record["index"],
        }


def build_train_iterator(
    source: Any,
    *,
    batch_per_host: int,
    seed: int,
    host_index: int = 0,
    host_count: int = 1,
    start_step: int = 0,
    workers: int = 0,
    prefetch_batches: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches for ever, beginning with that of `start_step`.

    Each epoch is shuffled anew over the whole source; batch t of all hosts, one after the
    other, is the same rows in the same order for any number of hosts.

    Args:
      source: random access to dicts with "image" and "features" or "views".
      batch_per_host: images a host and step.
      seed: of the shuffle.
      host_index, host_count: which share of each batch this host reads.
      start_step: where to begin; step t is the same wherever one began.
      workers: processes; 0 for threads.
      prefetch_batches: batches read ahead.

    Raises:
      ValueError: fewer records than one global batch.
    """
    batch_global = batch_per_host * host_count
    if len(source) < batch_global:
        raise ValueError(
            f"optim.batch_global: {batch_global} is more than the {len(source)} images there; "
            "use a smaller batch or more images."
        )
    dataset = grain.MapDataset.source(source).seed(seed).shuffle().repeat().map(_select)
    # Batched before any worker sees it: workers that batch for themselves drop remainders.
    # Hosts take turns by whole batches, so that rows of a global batch lie as on one host.
    dataset = dataset.batch(batch_per_host, drop_remainder=True)[host_index::host_count]
    # Step t reads elements t, so a start in the middle needs no stored iterator state.
    dataset = dataset[start_step:] if start_step else dataset
    threads = grain.ReadOptions(num_threads=2, prefetch_buffer_size=max(2, prefetch_batches))
    iterator = dataset.to_iter_dataset(threads)
    if workers:
        iterator = iterator.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        )
    return iter(iterator)


def _select(record: dict[str, Any]) -> dict[str, Any]:
    chosen = {key: record[key] for key in _KEYS if key in record}
    chosen["index"] = np.int64(chosen["index"])
    return chosen
