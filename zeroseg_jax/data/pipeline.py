"""Training input pipeline (grain): shuffle, repeat, batch, share of the host.

Batch t is a pure function of (seed, t), so that a resumed run needs no iterator state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grain
import numpy as np

from zeroseg_jax.data.sources import Source, check_batch
from zeroseg_jax.data.transforms import ImageError, cut_views, square_crop
from zeroseg_jax.data.views import Window

_KEYS = ("image", "features", "views", "fused", "local", "dense", "index")


class LiveViews:
    """Training squares and views of a source, for a teacher that runs during training.

    Every image is decoded once at the start. Unreadable ones are left out and listed, so that
    training does not fail on them later.

    Args:
      source: images.
      image_px: side of the training square.
      windows: windows of the V views; see data/views.py.
      view_px: side of a view.

    Attributes:
      skipped: one sentence for each image that was left out.
    """

    def __init__(
        self, source: Source, *, image_px: int, windows: Sequence[Window], view_px: int
    ) -> None:
        self._source, self._image_px = source, image_px
        self._windows, self._view_px = windows, view_px
        self._indices: list[int] = []
        self.skipped: list[str] = []
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
    augment: Callable[[dict[str, Any], np.random.Generator], dict[str, Any]] | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield batches without end, starting with the one of `start_step`.

    Each epoch is a new shuffle of the whole source. The batches of all hosts, concatenated, are
    the same rows in the same order for any number of hosts.

    Args:
      source: random access to dicts with "image", "index", and "features" or "views".
      batch_per_host: number of images in a batch of one host.
      seed: random seed of the shuffle.
      host_index, host_count: index of this host and number of hosts.
      start_step: step of the first batch.
      workers: number of worker processes; 0 reads in threads.
      prefetch_batches: number of batches read ahead.
      augment: change of a record; its generator depends on the seed and the record's position in
        the run. None for no change.

    Yields:
      dict of arrays with a leading axis of batch_per_host.

    Raises:
      ValueError: the source has fewer records than one global batch.
    """
    batch_global = batch_per_host * host_count
    check_batch(batch_global, len(source))
    dataset = grain.MapDataset.source(source).seed(seed).shuffle().repeat().map(_select)
    if augment is not None:
        dataset = dataset.random_map(augment)
    # Batches are formed before the worker processes, because each worker would drop a remainder.
    # Hosts take whole batches in turn, so that the rows of a global batch are those of one host.
    dataset = dataset.batch(batch_per_host, drop_remainder=True)[host_index::host_count]
    # Step t reads element t, so that a later start needs no stored iterator state.
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
