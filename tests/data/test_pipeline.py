"""Data order: every record once an epoch, the same batch t wherever one began."""

import itertools

import numpy as np
import pytest

from zeroseg_jax.data.pipeline import LiveViews, build_train_iterator
from zeroseg_jax.data.sources import PlaygroundSource
from zeroseg_jax.data.views import grid_windows


class Numbers:
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {
            "image": np.full((2, 2, 3), index, np.uint8),
            "features": np.full((2, 3), index, np.float16),
            "index": index,
            "name": str(index),
        }


def take(count, batches, **options):
    options = {"batch_per_host": 8, "seed": 3, **options}
    iterator = build_train_iterator(Numbers(count), **options)
    return [batch["index"].tolist() for batch in itertools.islice(iterator, batches)]


def test_every_record_once_an_epoch_in_a_new_order():
    batches = take(64, 16)
    first, second = sum(batches[:8], []), sum(batches[8:], [])
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second


def test_a_start_in_the_middle_gives_the_same_batches():
    assert take(50, 12)[5:] == take(50, 7, start_step=5)


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_an_epoch_without_overlap(hosts):
    parts = [
        take(64, 8, batch_per_host=8 // hosts, host_index=i, host_count=hosts) for i in range(hosts)
    ]
    whole = take(64, 8)
    for step in range(8):
        together = sum((part[step] for part in parts), [])
        assert together == whole[step]


def test_worker_processes_change_nothing():
    assert take(40, 6) == take(40, 6, workers=2)


def test_a_batch_larger_than_the_source_is_one_sentence():
    with pytest.raises(ValueError, match="optim.batch_global: 8 is more than the 5 images"):
        build_train_iterator(Numbers(5), batch_per_host=8, seed=0)


def test_live_views_are_cut_for_the_teacher():
    source = LiveViews(
        PlaygroundSource(0, 3, 64), image_px=32, windows=grid_windows((1, 2), False), view_px=16
    )
    record = source[1]
    assert record["image"].shape == (32, 32, 3) and record["views"].shape == (5, 16, 16, 3)
