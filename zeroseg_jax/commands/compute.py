"""Flags of device and dtype: --device, --dtype."""

from __future__ import annotations

from absl import flags

DEVICES = ("cpu", "gpu", "tpu")


def define_compute() -> None:
    """Define --device and --dtype."""
    flags.DEFINE_string(
        "device", "", "cpu, gpu or tpu, with an index for one of several (gpu:1); empty: the best"
    )
    flags.DEFINE_enum(
        "dtype", None, ["float32", "bfloat16", "float16"],
        "dtype of the matrix products; by default bfloat16 for a frozen CLIP on an accelerator, "
        "else float32",
    )  # fmt: skip


def select_device(name: str) -> None:
    """Make a device of --device JAX's default; "" leaves JAX's own choice.

    Raises:
      ValueError: not a device, or one that this machine does not have.
    """
    if not name:
        return
    import jax

    kind, _, index = name.partition(":")
    if kind not in DEVICES or not (index or "0").isdigit():
        raise ValueError(f"--device: {name!r} is not one of {', '.join(DEVICES)}, or gpu:1.")
    if kind == "cpu":
        jax.config.update("jax_platforms", "cpu")  # a GPU's memory is not reserved
    try:
        devices = jax.local_devices(backend=kind)
    except RuntimeError as error:
        raise ValueError(
            f"--device: JAX finds no {kind} here; install its wheel, see docs/install.md, or "
            "use --device=cpu."
        ) from error
    if int(index or 0) >= len(devices):
        raise ValueError(f"--device: {name} is beyond the {len(devices)} devices here; use {kind}.")
    jax.config.update("jax_default_device", devices[int(index or 0)])
