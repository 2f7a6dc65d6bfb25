"""--device: names, and devices that are not there."""

import jax
import pytest

from zeroseg_jax.commands import compute


@pytest.fixture(autouse=True)
def restored():
    yield
    jax.config.update("jax_default_device", None)
    jax.config.update("jax_platforms", "cpu")


def test_the_default_device_is_the_one_of_the_flag():
    compute.select_device("")
    assert jax.config.jax_default_device is None
    last = len(jax.devices()) - 1
    compute.select_device(f"cpu:{last}")
    assert jax.numpy.zeros(()).devices() == {jax.devices()[last]}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cuda", "--device: 'cuda' is not one of cpu, gpu, tpu, or gpu:1."),
        ("cpu:x", "--device: 'cpu:x' is not one of cpu"),
        ("cpu:999", "--device: cpu:999 is beyond the"),
        ("tpu", "--device: JAX finds no tpu here"),
    ],
)
def test_devices_that_are_not_here(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        compute.select_device(name)
