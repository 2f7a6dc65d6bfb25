"""Encode all views once: zeroseg prepare --config=FILE --workdir=DIR.

With objective clip_zss, the regions are computed and stored beside the bank; with loss.dense, the
dense targets. An interrupted run is resumed by the same command.
"""

from __future__ import annotations

from absl import flags as absl_flags
from absl.flags import FLAGS

from zeroseg_jax.commands import flags


def define_flags() -> None:
    """Define the command line."""
    flags.define_config()
    absl_flags.DEFINE_integer("host_index", 0, "index of this machine, below --host_count")
    absl_flags.DEFINE_integer("host_count", 1, "number of machines that share the bank's directory")


def main(arguments: list[str]) -> None:
    """Prepare the bank of --config under --workdir."""
    del arguments
    from zeroseg_jax.data.bank import bank_directory
    from zeroseg_jax.data.benchmarks.splits import get_split
    from zeroseg_jax.data.joined_banks import count_targets
    from zeroseg_jax.teacher.checkpoints.config import read_config
    from zeroseg_jax.teacher.dense_targets import check_grid, prepare_dense
    from zeroseg_jax.teacher.encode_bank import prepare_bank
    from zeroseg_jax.teacher.load import find_teacher, load_teacher, pin_teachers
    from zeroseg_jax.teacher.region_labels import count_tokens, prepare_regions
    from zeroseg_jax.training.methods import fit_teacher

    config, _ = flags.read_config()
    directory = bank_directory(config, FLAGS.workdir)
    # Region records name the commit of a second tower, as the manifest of training does.
    config = pin_teachers(config)
    clip = load_teacher(config.teacher.directory, attention=config.run.attention)
    config = fit_teacher(config, clip)
    patch_px = clip.patch_px
    if name := config.teacher.affinity:
        located = find_teacher(name, field="teacher.affinity")
        patch_px = read_config(located.directory).patch_px
    # What hours of encoding would end in is refused here.
    dense = count_targets(config) > 0
    if dense:
        check_grid(config, patch_px)
    if config.objective == "clip_zss":
        get_split(config.clip_zss.labels.split)
        count_tokens(config, patch_px)
    hosts = {"host_index": FLAGS.host_index, "host_count": FLAGS.host_count}
    manifest = prepare_bank(config, directory, clip, trains=True, **hosts)
    if config.objective == "clip_zss" and manifest is not None:
        prepare_regions(config, directory, clip, **hosts)
    if dense and manifest is not None:
        prepare_dense(config, directory, clip, **hosts)
