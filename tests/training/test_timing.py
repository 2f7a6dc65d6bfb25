"""Wall time by kind over restarts."""

import json

import numpy as np
import pytest

from zeroseg_jax.training import timing


def test_shares_of_the_wall_time_add_up_over_restarts(whole):
    last = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])
    shares = {name: value for name, value in last.items() if name.startswith("share_")}
    assert set(shares) == {f"share_{kind}" for kind in (*timing.KINDS, "other")}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert all(value >= 0 for value in shares.values()) and shares["share_compile"] > 0
    clock = timing.Goodput()
    clock.restore(np.array([1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 20.0]))
    with clock.measure("checkpoint"):
        pass
    assert clock.seconds("step") == 4.0 and 20 <= clock.total < 30
    np.testing.assert_allclose(clock.export()[:4], [1, 2, 3, 4])
