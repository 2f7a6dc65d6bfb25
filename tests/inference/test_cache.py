"""LruCache: eviction by number and by bytes."""

from zeroseg_jax.inference.cache import LruCache


def test_the_least_recently_used_is_evicted():
    cache = LruCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]
    cache.clear()
    assert [cache.get(key) for key in "abc"] == [None] * 3


def test_bytes_are_limited_and_the_newest_stays():
    cache = LruCache(9, max_bytes=100)
    cache.put("a", 1, 60)
    cache.put("b", 2, 40)
    cache.put("b", 3, 30)  # replaced, not added
    assert cache.get("a") == 1 and cache.get("b") == 3
    cache.put("c", 4, 20)
    assert [cache.get(key) for key in "abc"] == [None, 3, 4]
    cache.put("d", 5, 500)
    assert [cache.get(key) for key in "bcd"] == [None, None, 5]
