"""Students of a config: their shapes, without any computation, and random parameters."""

import jax

from zeroseg_jax.models.clip_zss import student as dense_student
from zeroseg_jax.models.zeroseg import student as students
from zeroseg_jax.training.methods import set_width


def check_student(config):
    config = set_width(config, 512)
    student = students.build_student(config.model)
    shapes = jax.eval_shape(lambda: students.init_params(student, jax.random.key(0)))
    images = jax.ShapeDtypeStruct((2, config.model.image_px, config.model.image_px, 3), "float32")
    outputs = jax.eval_shape(
        lambda p, x: students.apply_train(student, p, x, key=jax.random.key(0)), shapes, images
    )
    assert outputs.segments.shape == (2, config.model.head.segment_tokens[-1],
                                      config.model.embed_dim)  # fmt: skip


def draw_params(student):
    """Return random parameters; compiled as one program, as in the loop of training."""
    return jax.jit(lambda: students.init_params(student, jax.random.key(0)))()


def check_dense_student(config):
    config = set_width(config, 512)
    student = dense_student.build_dense_student(config.model, config.clip_zss.student)
    shapes = jax.eval_shape(lambda: dense_student.init_dense_params(student, jax.random.key(0)))
    side = config.model.image_px
    images = jax.ShapeDtypeStruct((2, side, side, 3), "float32")
    dense = jax.eval_shape(lambda p, x: dense_student.apply_dense(student, p, x), shapes, images)
    assert dense.shape[0] == 2 and dense.shape[-1] == config.model.embed_dim
    # A cell of the student's grid is made of whole pixels of the label map.
    assert side // config.clip_zss.labels.stride_px % dense.shape[1] == 0
    means = jax.ShapeDtypeStruct((2, 5, config.model.embed_dim), "float32")
    present = jax.ShapeDtypeStruct((2, 5), bool)
    prototypes = jax.eval_shape(
        lambda p, m, s: dense_student.apply_synthesizer(student, p, m, s, m), shapes, means, present
    )
    assert prototypes.shape == means.shape
