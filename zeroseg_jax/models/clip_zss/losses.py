"""CLIP-ZSS losses: global (GLM), pixel, focal, dice, prototype (PLM), local, and their sum.

Letters: B images, P cells of the student's grid, L pixels of the label map, V views, N seen
classes, K latent regions of an image, C = N + K, U unseen classes of self-training, M past class
tokens in memory, E teacher width.
An id of -1 marks a pixel without a label. Losses are float32.

Source: CLIP-ZSS (arXiv 2310.02296) unless a function names another.
"""

from __future__ import annotations

import functools

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from zeroseg_jax.config import ClipZssLossConfig
from zeroseg_jax.models.clip_zss.self_training import PixelScores, name_regions

Array = jax.Array
_NORM_EPS = 1e-6
_EXCLUDED = float(jnp.finfo(jnp.float32).min) / 2  # logit of a key that is not attended to
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0


@flax.struct.dataclass
class TeacherView:
    """Outputs of the frozen teacher for a batch.

    Attributes:
      views: (B, V, E), class tokens of the views; row 0 is the whole image.
      bank: (M, E), class tokens of past images.
      text: float32 (N, E), embeddings of the seen classes, unit rows.
      local: (B, K, E), class tokens of the latent regions; zeros for missing regions.
      unseen: float32 (U, E), embeddings of the unseen classes, unit rows; U is 0 without
        self-training.
    """

    views: Array
    bank: Array
    text: Array
    local: Array
    unseen: Array


def unit(x: Array) -> Array:
    """Scale the last axis to length 1 in float32; the gradient at 0 is finite."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).sum(axis=-1, keepdims=True) + _NORM_EPS**2)


def attend_globally(dense: Array, views: Array, weights: Array) -> Array:
    """Return GLM cross-attention from the teacher's class tokens to the student's features.

    The paper has one query, the class token of the whole image. With more views (own), each query
    attends only to the cells inside its view.

    Args:
      dense: (B, P, E), keys and values, not projected.
      views: (B, V, E), queries.
      weights: float32 (V, P), share of each cell inside each view, see own_terms.cell_weights;
        every row has a positive entry.

    Returns:
      float32 (B, V, E): softmax(q k / sqrt(E)) v, with the softmax weighted by the share.
    """
    chex.assert_shape(weights, (views.shape[1], dense.shape[1]))
    dense, query = dense.astype(jnp.float32), views.astype(jnp.float32)
    scores = jnp.einsum("bve,bpe->bvp", query, dense) * dense.shape[-1] ** -0.5
    inside = jnp.where(weights > 0, jnp.log(jnp.maximum(weights, _NORM_EPS)), _EXCLUDED)
    return jnp.einsum("bvp,bpe->bve", jax.nn.softmax(scores + inside, axis=-1), dense)


def global_loss(predicted: Array, views: Array, bank: Array, temperature: float) -> Array:
    """Return GLM's InfoNCE between each prediction and the class token of its view.

    Negatives are the other class tokens of the batch and those of the bank. Zero rows of the
    bank, which is not full in the first steps, are excluded.

    Args:
      predicted: (B, V, E), from attend_globally.
      views: (B, V, E), class tokens of the teacher.
      bank: (M, E), past class tokens.
      temperature: divisor of the cosines.

    Returns:
      float32 (B,), mean over views.
    """
    chex.assert_equal_shape([predicted, views])
    b, v, width = views.shape
    keys = jnp.concatenate([unit(views).reshape(b * v, width), unit(bank)])
    filled = jnp.concatenate([jnp.ones(b * v, bool), jnp.any(bank != 0, axis=-1)])
    logits = unit(predicted).reshape(b * v, width) @ keys.T / temperature
    logits = jnp.where(filled, logits, _EXCLUDED)
    own = jnp.diagonal(logits[:, : b * v])
    return (jax.nn.logsumexp(logits, axis=-1) - own).reshape(b, v).mean(axis=1)


def push_bank(bank: Array, class_token: Array) -> Array:
    """Insert a batch's class tokens (B, E) at the front of the bank (M, E); drop the oldest."""
    newest = jax.lax.stop_gradient(class_token).astype(bank.dtype)
    return jnp.concatenate([newest, bank])[: len(bank)]


def prototype_loss(prototypes: Array, text: Array, present: Array) -> Array:
    """Return the binary cross-entropy between prototypes and embeddings of the seen classes.

    Args:
      prototypes: (B, N, E), of the seen regions.
      text: float32 (N, E), unit rows.
      present: bool (B, N).

    Returns:
      float32 (B,): mean over present classes of the mean over N of the binary cross-entropy of
      sigmoid(t p), own class positive; 0 in an image without seen classes.
    """
    chex.assert_shape(prototypes, (*present.shape, text.shape[-1]))
    logits = prototypes.astype(jnp.float32) @ text.T
    target = jnp.eye(len(text), dtype=jnp.float32)
    return _mean_where(optax.sigmoid_binary_cross_entropy(logits, target).mean(axis=-1), present)


def concat_logits(
    dense: Array, text: Array, prototypes: Array, *, alpha: float, beta: float, seen_form: str
) -> Array:
    """Score cells: concat(alpha R T_seen, beta cos(R, P_latent)).

    Args:
      dense: (B, P, E).
      text: float32 (N, E), unit rows.
      prototypes: (B, K, E), of the latent regions.
      alpha, beta, seen_form: settings seen_scale, latent_scale, seen_form.

    Returns:
      float32 (B, P, N + K).
    """
    features = unit(dense)
    rows = features if seen_form == "cosine" else dense.astype(jnp.float32)
    seen = alpha * jnp.einsum("bpe,ne->bpn", rows, text)
    latent = beta * jnp.einsum("bpe,bke->bpk", features, unit(prototypes))
    return jnp.concatenate([seen, latent], axis=-1)


def upsample(logits: Array, grid: tuple[int, int], size: tuple[int, int]) -> Array:
    """Resize (B, h * w, C) bilinearly to (B, H * W, C)."""
    b, _, classes = logits.shape
    maps = logits.reshape(b, *grid, classes)
    resized = jax.image.resize(maps, (b, *size, classes), "bilinear", antialias=False)
    return resized.reshape(b, -1, classes)


def pixel_loss(logits: Array, target: Array, weights: Array, present: Array) -> Array:
    """Return the cross-entropy over labelled pixels.

    Args:
      logits: float32 (B, L, C).
      target: float32 (B, L, C), one-hot; all 0 for a pixel without a label.
      weights: float32 (C,), weight of a pixel by its id.
      present: bool (B, C), classes in the softmax.

    Returns:
      float32 (B,), weighted mean over pixels; 0 in an image without labels.
    """
    chex.assert_equal_shape([logits, target])
    scores = jax.nn.log_softmax(jnp.where(present[:, None], logits, _EXCLUDED))
    # A product with the one-hot target, because the gradient of an index is a scatter.
    weighted = jnp.where(present[:, None], target * weights, 0.0)
    loss = -(jnp.where(present[:, None], scores, 0.0) * weighted).sum(axis=(1, 2))
    return loss / jnp.maximum(weighted.sum(axis=(1, 2)), _NORM_EPS)


def focal_loss(logits: Array, target: Array, weights: Array) -> Array:
    """Return the sigmoid focal loss (alpha 0.25, gamma 2) over all classes and pixels.

    Args:
      logits: float32 (B, L, C).
      target: float32 (B, L, C), all 0 for a pixel without a label; such a pixel is not left out
        but is a negative of every class.
      weights: float32 (B, C), weights of classes; 0 for absent ones.

    Returns:
      float32 (B,): mean over pixels, sum over classes, divided by the mean number of classes per
      image of the batch.

    Source: ZegCLIP (Zhou et al., CVPR 2023), after Lin et al., ICCV 2017.
    """
    chex.assert_equal_shape([logits, target])
    pixels = optax.sigmoid_focal_loss(logits, target, alpha=_FOCAL_ALPHA, gamma=_FOCAL_GAMMA)
    masks = (target.max(axis=1) * weights).sum(axis=-1).mean()
    return (pixels.mean(axis=1) * weights).sum(axis=-1) / jnp.maximum(masks, 1)


def dice_loss(logits: Array, target: Array, weights: Array) -> Array:
    """Return the Dice loss, smoothed by one pixel, over the classes present in an image.

    Args:
      logits, target: float32 (B, L, C).
      weights: float32 (B, C).

    Returns:
      float32 (B,), divided as in focal_loss.

    Source: ZegCLIP, after Milletari et al., 3DV 2016.
    """
    chex.assert_equal_shape([logits, target])
    probability = jax.nn.sigmoid(logits)
    both = (probability * target).sum(axis=1)
    total = probability.sum(axis=1) + target.sum(axis=1)
    present = target.max(axis=1) * weights
    loss = (1 - (2 * both + 1) / (total + 1)) * present
    return loss.sum(axis=-1) / jnp.maximum(present.sum(axis=-1).mean(), 1)


def local_loss(
    means: Array, targets: Array, present: Array, *, temperature: float, form: str
) -> Array:
    """Return the distance of region means to the teacher's class tokens of the regions.

    Args:
      means: (B, K, E), means of the student's features over latent regions.
      targets: (B, K, E), class tokens of the teacher.
      present: bool (B, K).
      temperature: divisor of the cosines in "infonce".
      form: "infonce", with all regions of the batch as negatives; or "cosine", 1 - cosine.

    Returns:
      float32 (B,): mean over the regions of an image.

    Source: CLIP-to-Seg distillation, the successor's local loss; "cosine" is own.
    """
    chex.assert_equal_shape([means, targets])
    b, k, width = means.shape
    own = jnp.einsum("bke,bke->bk", unit(means), unit(targets))
    if form == "cosine":
        return _mean_where(1 - own, present)
    keys = unit(targets).reshape(b * k, width)
    logits = jnp.einsum("bke,je->bkj", unit(means), keys) / temperature
    logits = jnp.where(present.reshape(-1), logits, _EXCLUDED)
    return _mean_where(jax.nn.logsumexp(logits, axis=-1) - own / temperature, present)


def total_loss(
    dense: Array,
    fused: Array,
    means: Array,
    present: Array,
    prototypes: Array,
    teacher: TeacherView,
    config: ClipZssLossConfig,
    *,
    weights: Array,
    flipped: Array,
    self_train: Array | bool = False,
) -> tuple[Array, dict[str, Array]]:
    """Return the weighted sum of the terms.

    Args:
      dense: (B, h, w, E), features of the student.
      fused: int (B, H, W), 0 to N - 1 seen, N to N + K - 1 latent, -1 without a label.
      means: (B, N + K, E), from region_means.
      present: bool (B, N + K), from region_means.
      prototypes: (B, N + K, E), output of the synthesizer.
      teacher: outputs of the teacher.
      config: weights and constants; ids from N on are ignored without config.latent.
      weights: float32 (V, h * w), share of each cell inside each view.
      flipped: bool (B,), images flipped horizontally for the student only.
      self_train: bool (), True gives the pixels of regions to unseen classes, see self_training.py.

    Returns:
      The loss float32 (B,), and metrics by name, each float32 (B,): the terms, latent_regions and
      annotated_share.
    """
    b, h, w, width = dense.shape
    seen, size = len(teacher.text), (fused.shape[1], fused.shape[2])
    chex.assert_shape([means, prototypes], (*present.shape, width))
    chex.assert_shape(flipped, (b,))
    fused, cells = fused.reshape(b, -1), dense.reshape(b, h * w, width)
    unflipped = jnp.where(flipped[:, None, None, None], dense[:, :, ::-1], dense)
    unflipped = unflipped.reshape(b, h * w, width)
    regions = fused
    if not config.latent:
        fused = jnp.where(fused < seen, fused, -1)
        prototypes, present = prototypes[:, :seen], present[:, :seen]
    score = functools.partial(
        concat_logits, alpha=config.seen_scale, beta=config.latent_scale, seen_form=config.seen_form
    )
    logits = upsample(score(cells, teacher.text, prototypes[:, seen:]), (h, w), size)
    is_seen = jnp.arange(logits.shape[-1]) < seen
    importance = jnp.where(is_seen, 1.0, config.latent_importance)
    scored = PixelScores(logits, fused, is_seen | present, importance)
    if len(teacher.unseen):
        unseen = upsample(score(cells, teacher.unseen, prototypes[:, :0]), (h, w), size)
        scored = name_regions(scored, regions, unseen, seen, self_train)
    logits, ids, choices, importance = scored
    target = jax.nn.one_hot(ids, logits.shape[-1], dtype=jnp.float32)
    tau = config.temperature
    terms = {
        "pixel": lambda: pixel_loss(logits, target, importance, choices),
        "focal": lambda: focal_loss(logits, target, choices * importance),
        "dice": lambda: dice_loss(logits, target, choices * importance),
        "global": lambda: global_loss(
            attend_globally(unflipped, teacher.views, weights), teacher.views, teacher.bank, tau
        ),
        "prototype": lambda: prototype_loss(prototypes[:, :seen], teacher.text, present[:, :seen]),
        "local": lambda: local_loss(
            means[:, seen:],
            teacher.local,
            present[:, seen:],
            temperature=tau,
            form=config.local_form,
        ),
    }
    weight_of = {name: getattr(config, f"{name}_weight") for name in terms}
    # Terms of weight 0 are neither computed nor logged.
    parts = {name: term() for name, term in terms.items() if weight_of[name]}
    loss = sum(weight_of[name] * value for name, value in parts.items())
    metrics = {f"loss_{name}": value for name, value in parts.items()}
    metrics["latent_regions"] = present[:, seen:].sum(axis=-1).astype(jnp.float32)
    annotated = (fused >= 0) & (fused < seen)
    metrics["annotated_share"] = annotated.astype(jnp.float32).mean(axis=-1)
    return loss, metrics


def _mean_where(values: Array, where: Array) -> Array:
    kept = jnp.where(where, values, 0.0)
    return kept.sum(axis=-1) / jnp.maximum(where.sum(axis=-1), 1)
