"""The losses of CLIP-ZSS: arrays in, float32 out.

Letters: B images, P cells of the student's grid, L pixels of the label map, C = N + K classes
(N seen, K latent ones of an image), M past class tokens in the bank, E teacher width. An id of -1
is a pixel without a label.

Source: CLIP-ZSS (arXiv 2310.02296) unless a function says otherwise.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from zeroseg_jax.config import ClipZssLossConfig

Array = jax.Array
_NORM_EPS = 1e-6
_LEAST = float(jnp.finfo(jnp.float32).min) / 2


@flax.struct.dataclass
class TeacherView:
    """What the frozen teacher says of a batch.

    Attributes:
      views: (B, V, E), class tokens of views of the images; row 0 is the whole image.
      bank: (M, E), class tokens of past images.
      text: float32 (N, E), the seen words, unit rows.
      local: (B, K, E), its view of each latent region; zeros where there is none.
    """

    views: Array
    bank: Array
    text: Array
    local: Array


def unit(x: Array) -> Array:
    """Scale the last axis to length 1 in float32; the gradient at 0 is finite."""
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.square(x).sum(axis=-1, keepdims=True) + _NORM_EPS**2)


def attend_globally(dense: Array, views: Array, weights: Array) -> Array:
    """GLM: let the teacher's class tokens look at the student's dense features.

    The paper has one view, the whole image; more are the project's own, and look at the cells
    inside them alone.

    Args:
      dense: (B, P, E), keys and values as they are, no projection.
      views: (B, V, E), the queries.
      weights: float32 (V, P), the share of each cell that lies in each view, see
        losses.cell_weights; every view has some.

    Returns:
      float32 (B, V, E): softmax(q k / sqrt(E)) v, the softmax weighted by the share.
    """
    dense, query = dense.astype(jnp.float32), views.astype(jnp.float32)
    scores = jnp.einsum("bve,bpe->bvp", query, dense) * dense.shape[-1] ** -0.5
    inside = jnp.where(weights > 0, jnp.log(jnp.maximum(weights, _NORM_EPS)), _LEAST)
    return jnp.einsum("bvp,bpe->bve", jax.nn.softmax(scores + inside, axis=-1), dense)


def global_loss(predicted: Array, views: Array, bank: Array, temperature: float) -> Array:
    """GLM's InfoNCE: each prediction to the class token of its own view.

    Negatives are the other class tokens of the batch and those of the bank. Rows of zeros in the
    bank, where it is not full yet, do not count.

    Args:
      predicted: (B, V, E), from attend_globally.
      views: (B, V, E), the teacher's.
      bank: (M, E), past class tokens.
      temperature: divides cosines.

    Returns:
      float32 (B,), the mean over views.
    """
    b, v, width = views.shape
    keys = jnp.concatenate([unit(views).reshape(b * v, width), unit(bank)])
    filled = jnp.concatenate([jnp.ones(b * v, bool), jnp.any(bank != 0, axis=-1)])
    logits = unit(predicted).reshape(b * v, width) @ keys.T / temperature
    logits = jnp.where(filled, logits, _LEAST)
    own = jnp.diagonal(logits[:, : b * v])
    return (jax.nn.logsumexp(logits, axis=-1) - own).reshape(b, v).mean(axis=1)


def push_bank(bank: Array, class_token: Array) -> Array:
    """Put a batch's class tokens (B, E) in front of the bank (M, E); the oldest drop out."""
    newest = jax.lax.stop_gradient(class_token).astype(bank.dtype)
    return jnp.concatenate([newest, bank])[: len(bank)]


def region_members(fused: Array, h: int, w: int, classes: int) -> Array:
    """Tell how much of each cell of the student's grid lies in each region.

    Args:
      fused: int (B, H, W), -1 .. classes - 1; H and W are multiples of h and w.
      h, w: the student's grid.
      classes: C.

    Returns:
      float32 (B, h * w, C), rows sum to at most 1.
    """
    b, height, width = fused.shape
    blocks = fused.reshape(b, h, height // h, w, width // w)
    members = jax.nn.one_hot(blocks, classes, dtype=jnp.float32).mean(axis=(2, 4))
    return members.reshape(b, h * w, classes)


def region_means(dense: Array, members: Array) -> tuple[Array, Array]:
    """Average dense features over regions.

    Args:
      dense: (B, P, E).
      members: float32 (B, P, C), from region_members.

    Returns:
      float32 (B, C, E), zeros where a region is empty, and bool (B, C), whether it is not.
    """
    area = members.sum(axis=1)
    sums = jnp.einsum("bpc,bpe->bce", members, dense.astype(jnp.float32))
    return sums / jnp.maximum(area, _NORM_EPS)[..., None], area > 0


def prototype_loss(prototypes: Array, text: Array, present: Array) -> Array:
    """BCE that ties the prototype of each seen class to its words.

    Args:
      prototypes: (B, N, E), of the seen regions.
      text: float32 (N, E), unit rows.
      present: bool (B, N).

    Returns:
      float32 (B,): mean over the present classes of the mean over N of the binary cross-entropy
      of sigmoid(t p), own class positive; 0 where no seen class is present.
    """
    logits = prototypes.astype(jnp.float32) @ text.T
    target = jnp.eye(len(text), dtype=jnp.float32)
    return _mean_where(_binary_cross_entropy(logits, target).mean(axis=-1), present)


def concat_logits(
    dense: Array, text: Array, prototypes: Array, *, alpha: float, beta: float
) -> Array:
    """Score cells: concat(alpha cos(R, T_seen), beta cos(R, P_latent)).

    Args:
      dense: (B, P, E).
      text: float32 (N, E), unit rows.
      prototypes: (B, K, E), of the latent regions.
      alpha, beta: multiply cosines.

    Returns:
      float32 (B, P, N + K).
    """
    features = unit(dense)
    seen = alpha * jnp.einsum("bpe,ne->bpn", features, text)
    latent = beta * jnp.einsum("bpe,bke->bpk", features, unit(prototypes))
    return jnp.concatenate([seen, latent], axis=-1)


def enlarge(logits: Array, grid: tuple[int, int], size: tuple[int, int]) -> Array:
    """Resize (B, h * w, C) bilinearly to (B, H * W, C)."""
    b, _, classes = logits.shape
    maps = logits.reshape(b, *grid, classes)
    resized = jax.image.resize(maps, (b, *size, classes), "bilinear", antialias=False)
    return resized.reshape(b, -1, classes)


def pixel_loss(logits: Array, target: Array, weights: Array, present: Array) -> Array:
    """Cross-entropy over pixels that have an id.

    Args:
      logits: float32 (B, L, C).
      target: float32 (B, L, C), one-hot; all 0 for a pixel without an id.
      weights: float32 (C,), of a pixel by its id.
      present: bool (B, C), classes that can be chosen at all.

    Returns:
      float32 (B,), the weighted mean over pixels, 0 where no pixel has an id.
    """
    scores = jax.nn.log_softmax(jnp.where(present[:, None], logits, _LEAST))
    # A product with the one-hot target: its gradient is no scatter.
    weighted = jnp.where(present[:, None], target * weights, 0.0)
    loss = -(jnp.where(present[:, None], scores, 0.0) * weighted).sum(axis=(1, 2))
    return loss / jnp.maximum(weighted.sum(axis=(1, 2)), _NORM_EPS)


def focal_loss(
    logits: Array, target: Array, weights: Array, *, alpha: float = 0.25, gamma: float = 2.0
) -> Array:
    """Sigmoid focal loss over all classes and pixels.

    Args:
      logits: float32 (B, L, C).
      target: float32 (B, L, C), 0 everywhere for a pixel without an id: it is a negative of
        every class, and not left out.
      weights: float32 (B, C), of classes; 0 for one that is not there.
      alpha, gamma: of the focal loss.

    Returns:
      float32 (B,): mean over pixels, sum over classes, divided by the classes that an image of
      the batch has in the mean (by all masks of the batch together, times B).

    Source: ZegCLIP's loss (Zhou et al., CVPR 2023), after Lin et al., ICCV 2017.
    """
    cross = _binary_cross_entropy(logits, target)
    probability = jax.nn.sigmoid(logits)
    missed = jnp.abs(target - probability)
    balance = alpha * target + (1 - alpha) * (1 - target)
    classes = (balance * missed**gamma * cross).mean(axis=1)
    masks = (target.max(axis=1) * weights).sum(axis=-1).mean()
    return (classes * weights).sum(axis=-1) / jnp.maximum(masks, 1)


def dice_loss(logits: Array, target: Array, weights: Array) -> Array:
    """Dice loss, smoothed by one pixel, over the classes present in an image.

    Args:
      logits, target: float32 (B, L, C).
      weights: float32 (B, C).

    Returns:
      float32 (B,), divided as focal_loss is.

    Source: ZegCLIP's loss, after Milletari et al., 3DV 2016.
    """
    probability = jax.nn.sigmoid(logits)
    both = (probability * target).sum(axis=1)
    total = probability.sum(axis=1) + target.sum(axis=1)
    present = target.max(axis=1) * weights
    loss = (1 - (2 * both + 1) / (total + 1)) * present
    return loss.sum(axis=-1) / jnp.maximum(present.sum(axis=-1).mean(), 1)


def local_loss(
    means: Array, targets: Array, present: Array, *, temperature: float, form: str
) -> Array:
    """Pull region means to the teacher's class token of each region.

    Args:
      means: (B, K, E), of the student's dense features over latent regions.
      targets: (B, K, E), the teacher's view of the regions.
      present: bool (B, K).
      temperature: divides cosines of "infonce".
      form: "infonce", negatives are all regions of the batch; "cosine", 1 - cosine.

    Returns:
      float32 (B,): mean over an image's regions.

    Source: CLIP-to-Seg distillation, the successor's local loss; "cosine" is own.
    """
    b, k, width = means.shape
    own = jnp.einsum("bke,bke->bk", unit(means), unit(targets))
    if form == "cosine":
        return _mean_where(1 - own, present)
    keys = unit(targets).reshape(b * k, width)
    logits = jnp.einsum("bke,je->bkj", unit(means), keys) / temperature
    logits = jnp.where(present.reshape(-1), logits, _LEAST)
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
    turned: Array,
) -> tuple[Array, dict[str, Array]]:
    """Add up the weighted terms of CLIP-ZSS.

    Args:
      dense: (B, h, w, E), the student's features.
      fused: int (B, H, W), 0 .. N - 1 seen, N .. N + K - 1 latent, -1 neither.
      means: (B, N + K, E), present: bool (B, N + K), from region_means.
      prototypes: (B, N + K, E), of the synthesizer.
      teacher: what the teacher says.
      config: weights and constants; without config.latent the ids from N on do not count.
      weights: float32 (V, h * w), the share of each cell that lies in each view.
      turned: bool (B,), images that the student sees mirrored, and the teacher did not.

    Returns:
      The loss, float32 (B,), and its parts and counts by name, each float32 (B,).
    """
    b, h, w, width = dense.shape
    seen, size = len(teacher.text), fused.shape[1:]
    fused, cells = fused.reshape(b, -1), dense.reshape(b, h * w, width)
    as_taught = jnp.where(turned[:, None, None, None], dense[:, :, ::-1], dense)
    as_taught = as_taught.reshape(b, h * w, width)
    if not config.latent:
        fused = jnp.where(fused < seen, fused, -1)
        prototypes, present = prototypes[:, :seen], present[:, :seen]
    logits = concat_logits(
        cells, teacher.text, prototypes[:, seen:], alpha=config.seen_scale, beta=config.latent_scale
    )
    logits = enlarge(logits, (h, w), size)
    is_seen = jnp.arange(logits.shape[-1]) < seen
    importance = jnp.where(is_seen, 1.0, config.latent_importance)
    choices = is_seen | present
    target = jax.nn.one_hot(fused, logits.shape[-1], dtype=jnp.float32)
    tau = config.temperature
    terms = {
        "pixel": lambda: pixel_loss(logits, target, importance, choices),
        "focal": lambda: focal_loss(logits, target, choices * importance),
        "dice": lambda: dice_loss(logits, target, choices * importance),
        "global": lambda: global_loss(
            attend_globally(as_taught, teacher.views, weights), teacher.views, teacher.bank, tau
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
    # A term of weight 0 costs nothing and is not logged.
    parts = {name: term() for name, term in terms.items() if weight_of[name]}
    loss = sum(weight_of[name] * value for name, value in parts.items())
    metrics = {f"loss_{name}": value for name, value in parts.items()}
    metrics["latent_regions"] = present[:, seen:].sum(axis=-1).astype(jnp.float32)
    annotated = (fused >= 0) & (fused < seen)
    metrics["annotated_share"] = annotated.astype(jnp.float32).mean(axis=-1)
    return loss, metrics


def _binary_cross_entropy(logits: Array, target: Array) -> Array:
    return jax.nn.softplus(logits) - logits * target


def _mean_where(values: Array, where: Array) -> Array:
    kept = jnp.where(where, values, 0.0)
    return kept.sum(axis=-1) / jnp.maximum(where.sum(axis=-1), 1)
