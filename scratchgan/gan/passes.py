"""Passes of D over real and fake samples, and the gradients that come out of them.

In its own step D sees real and fake in one batch of 2N (`together`), which is faster, or one after the other. Both
give the same scores unless a layer of D couples samples, draws random numbers or changes buffers. Batch normalisation
couples samples. Its statistics are
- with joint_batch=False, DCGAN's published step, those of each batch alone; running statistics follow three batches a
  step: the real, the fake, and the fake again when G learns from it. Small batches share one pass even then, in which
  each has its own statistics;
- with joint_batch=True, those of both together. Then D normalises fakes in its own step by other statistics than when G
  learns from them.
"""

from contextlib import nullcontext
from typing import NamedTuple

from scratchgan import backend, kernels, ranks

# Pixels of real and fake images together up to which D treats both in one pass also where each has statistics of its
# own: half as many calls and longer matrix products. More would leave the caches, and double D's memory.
PIXELS_TOGETHER = 1 << 17


class Scores(NamedTuple):
    """D's scores of a real and of a fake batch, N each, of any shape; `joint`: whether one pass gave both."""

    real: object
    fake: object
    joint: bool = False


def couples_samples(D):
    return any(layer.couples_samples for _, layer in D.named_layers())


def fits_one_pass(D):
    """Whether layers that couple samples or have buffers can keep real and fake apart in one pass."""
    return all(layer.knows_batches or not (layer.couples_samples or layer.buffers) for _, layer in D.named_layers())


def one_pass(D, objective, real, joint_batch):
    """Whether real and fake go through D together: joint, paired by the objective, or kept apart in a small batch.

    Ranks decide by the whole batch, all alike: one pass or two have other sums between ranks, and draw otherwise.
    """
    if objective.paired or joint_batch:
        return True
    channels = real.shape[1] if real.ndim > 2 else 1
    share = ranks.share()
    return 2 * real.size // channels * share.total // share.count <= PIXELS_TOGETHER and fits_one_pass(D)


def given(x, labels):
    """What a network takes: x, or (x, labels) in a conditional game."""
    return x if labels is None else (x, labels)


def of_samples(dx):
    """The gradient on the samples, of what a network's backward pass gives: (that, None) in a conditional game."""
    return dx[0] if isinstance(dx, tuple) else dx


def pairs(labels):
    """The labels of a batch of 2N, as a fake has the label of its real."""
    return None if labels is None else backend.array_module(labels).concatenate([labels, labels])


def scores(D, x, labels=None, batches=1):
    """D's scores of a batch, or of several one after the other: one or a map of them for each sample."""
    with ranks.passing(batches):
        s = D.forward(given(x, labels))
    if s.ndim == 0 or len(s) != len(x):
        raise ValueError(f"Game: the discriminator must give scores of shape (N, ...) for N samples, but for "
                         f"{len(x)} it gave {tuple(s.shape)}")
    return s


@kernels.formula
def one_batch(real, fake):
    """One batch of 2N: the real samples, then the fake ones, in the memory order of the fake ones."""
    n, xp = len(fake), backend.array_module(fake)
    both = backend.empty_along((2 * n, *fake.shape[1:]), fake.dtype, backend.memory_order(fake), xp)
    both[:n], both[n:] = real, fake
    return both


def together(real, fake):
    """`one_batch`, by the functions for such arrays."""
    return kernels.of(fake, real).one_batch(real, fake)


def learn(D, objective, real, fake, labels, joint_batch, penalties=()):
    """Adds d loss_d / d theta to D's gradient, penalties included; returns the `Scores` and what the penalties came to.

    D's last pass is the fake's, or both's.
    """
    first = sharing(D, penalties)
    if first is None:
        (both, _), terms = of_loss(D, objective, real, fake, labels, joint_batch), []
    else:
        both, *terms = first.gradient_with_loss(D, objective, real, fake, labels)
    return both, terms + [each.gradient(D, real, fake, labels) for each in penalties if each is not first]


def sharing(D, penalties):
    """The first penalty that shares D's own passes, or None."""
    return next((penalty for penalty in penalties if penalty.shares_passes(D)), None)


def of_loss(D, objective, real, fake, labels, joint_batch, wrt="params"):
    """Adds the gradient of the scores' loss to D's; returns the `Scores` and, with wrt="all", d loss_d / d fake."""
    if one_pass(D, objective, real, joint_batch):
        n = len(fake)
        with nullcontext() if joint_batch else D.in_batches(2):
            both = scores(D, together(real, fake), pairs(labels), batches=2)
        dx = of_samples(D.backward(objective.grad_both(both), wrt))
        return Scores(both[:n], both[n:], joint=True), dx if dx is None else dx[n:]
    # The backward pass of the real ones comes before the fake ones take over D's caches.
    of_real = scores(D, real, labels)
    D.backward(objective.grad_real(of_real), "params")
    of_fake = scores(D, fake, labels)
    return Scores(of_real, of_fake), of_samples(D.backward(objective.grad_fake(of_fake), wrt))


def fake_gradient(D, dscores, joint):
    """dL/dfake from dL/d(scores of the fakes), through D's last pass; its parameters' gradients stay as they are."""
    if not joint:
        return of_samples(D.backward(dscores, "input"))
    if all(layer.keeps_rows for _, layer in D.named_layers()):
        with D.only_rows(slice(len(dscores), None)):
            return D.backward(dscores, "input")
    xp = backend.array_module(dscores)  # the real rows of the batch have no part in the loss
    dx = of_samples(D.backward(xp.concatenate([xp.zeros_like(dscores), dscores]), "input"))
    return dx[len(dx) // 2:]
