"""Losses, with PyTorch's names, arguments and conventions.

`forward(input, target)` gives the loss, `backward(dy=None)` the gradient dL/d(input) of that pass. With
reduction="mean" or "sum" the loss is a 0-d array; with "none" it has one entry an element, and `backward` takes dy
of that shape (ones by default). Like layers, losses take complex input, for complex-step derivatives.
"""

import numpy as np

from scratchgan import backend, kernels
from scratchgan.backend import array_module
from scratchgan.layers.activations import UNDERFLOW_TO_ZERO

REDUCTIONS = ("mean", "sum", "none")


def like(weight, input):
    """A weight (number, list or array) in the input's precision, so that it does not change the result's."""
    return array_module(input).asarray(weight, input.real.dtype)


def require_broadcast(what, weight, shape):
    """`ValueError` unless a weight, or None, goes with each element of an input."""
    its = tuple(getattr(weight, "shape", None) or np.shape(weight))
    if weight is not None and (len(its) > len(shape) or any(a not in (1, b) for a, b in zip(its[::-1], shape[::-1]))):
        raise ValueError(f"{what} has shape {its}, which does not go with an input of shape {tuple(shape)}")


class Loss:
    """The base: subclasses give the loss of each element and its derivative; this class multiplies by weights and
    takes the mean or the sum."""

    def __init__(self, weight=None, reduction="mean"):
        if reduction not in REDUCTIONS:
            raise ValueError(f'{type(self).__name__}: reduction must be "mean", "sum" or "none", not {reduction!r}')
        self.weight, self.reduction = weight, reduction
        self.cache = None

    def elements(self, input, target):
        """The loss of each element, before weights."""
        raise NotImplementedError(f"{type(self).__name__} does not define elements")

    def elements_grad(self, input, target):
        """d(elements)/d(input), elementwise."""
        raise NotImplementedError(f"{type(self).__name__} does not define elements_grad")

    @UNDERFLOW_TO_ZERO
    def forward(self, input, target):
        self.check(input, target)
        for what in ("weight", "pos_weight"):
            require_broadcast(f"{type(self).__name__}: {what}", getattr(self, what, None), input.shape)
        loss = self.elements(input, target)
        if self.weight is not None:
            loss = loss * like(self.weight, input)
        self.cache = input, target
        return self.reduce(loss)

    def reduce(self, loss):
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" else loss.sum()

    @UNDERFLOW_TO_ZERO
    def backward(self, dy=None):
        input, target = self.kept()
        grad = self.elements_grad(input, target)
        if self.weight is not None:
            grad = grad * like(self.weight, input)
        if self.reduction == "mean":
            grad = grad / max(1, input.size)
        return grad if (dy := self.checked_dy(dy, input.shape)) is None else grad * dy

    def __call__(self, input, target):
        return self.forward(input, target)

    def kept(self):
        if self.cache is None:
            raise RuntimeError(f"{type(self).__name__}: backward needs a forward pass first")
        return self.cache

    def checked_dy(self, dy, shape):
        if dy is None:
            return None
        if self.reduction != "none":
            raise ValueError(f'{type(self).__name__}: dy is only for reduction="none", not {self.reduction!r}')
        if tuple(dy.shape) != tuple(shape):
            raise ValueError(f"{type(self).__name__}: dy has shape {tuple(dy.shape)}, but the loss has {tuple(shape)}")
        return dy

    def check(self, input, target):
        name = type(self).__name__
        for what, array in (("input", input), ("target", target)):
            if not backend.is_array(array) or array.dtype.name not in backend.DTYPES:
                kind = array.dtype if backend.is_array(array) else type(array).__name__
                raise TypeError(f"{name}: expected a float array as {what}, got {kind}")
        if input.shape != target.shape:
            raise ValueError(f"{name}: input has shape {tuple(input.shape)}, target {tuple(target.shape)}; "
                             "they must be equal")
        if np.finfo(input.dtype).dtype != np.finfo(target.dtype).dtype:
            raise TypeError(f"{name}: input is {input.dtype}, target {target.dtype}; they must have one precision")

    def __repr__(self):
        return f"{type(self).__name__}(reduction={self.reduction!r})"


class MSELoss(Loss):
    """(x - t)^2;  d/dx = 2 (x - t)."""

    def __init__(self, reduction="mean"):
        super().__init__(None, reduction)

    def elements(self, input, target):
        return (input - target) ** 2

    def elements_grad(self, input, target):
        return 2 * (input - target)


class BCELoss(Loss):
    """-(t log p + (1 - t) log(1 - p)) for probabilities p;  d/dp = (p - t) / (p (1 - p)).

    PyTorch's conventions at the ends: the logarithms are clamped at -100, and the gradient's denominator at
    1e-12 (a float32 there), so that p = 0 and p = 1 give finite numbers (which there are not each other's derivative).
    """

    def elements(self, input, target):
        xp = array_module(input)
        tiny = np.finfo(input.dtype).smallest_subnormal  # its logarithm is below -100, in float32, too
        def clamped(p, log, end):
            value = log(xp.where(end, xp.full_like(p, 0.5), p))
            return xp.where(end | (value.real < -100), xp.full_like(value, -100), value)
        def log_of_rest(p):  # log1p keeps the digits of a small p, and does not know complex numbers
            return xp.log(1 - p) if p.dtype.kind == "c" else xp.log1p(-p)
        return -(target * clamped(input, xp.log, input.real <= tiny)
                 + (1 - target) * clamped(input, log_of_rest, input.real >= 1))

    def elements_grad(self, input, target):
        xp = array_module(input)
        denominator = input * (1 - input)
        floor = xp.full_like(denominator, np.float32(1e-12))
        return (input - target) / xp.where(denominator.real > floor.real, denominator, floor)

    def check(self, input, target):
        super().check(input, target)
        if input.size and not bool(((input.real >= 0) & (input.real <= 1)).all()):
            raise ValueError("BCELoss: every input must be a probability from 0 to 1; for scores use "
                             "BCEWithLogitsLoss")


class BCEWithLogitsLoss(Loss):
    """BCELoss of p = sigmoid(z), from the logit z:  softplus(z) - t z;  d/dz = sigmoid(z) - t.

    No logarithm of 0 at any z. With `pos_weight` w the positive term counts w times:
    t w softplus(-z) + (1 - t) softplus(z).
    """

    def __init__(self, weight=None, reduction="mean", pos_weight=None):
        super().__init__(weight, reduction)
        self.pos_weight = pos_weight

    def elements(self, input, target):
        if self.pos_weight is None:
            return (1 - target) * kernels.softplus(input) + target * kernels.softplus(-input)
        positive = like(self.pos_weight, input) * target
        return (1 - target) * kernels.softplus(input) + positive * kernels.softplus(-input)

    def elements_grad(self, input, target):
        positive = target if self.pos_weight is None else like(self.pos_weight, input) * target
        return (1 - target) * kernels.sigmoid(input) - positive * kernels.sigmoid(-input)


class CrossEntropyLoss(Loss):
    """-sum_c w_c t_c log p_c with p = softmax(z) over axis 1, for scores z (N, C, ...) or (C,).

    `target` holds class indices (N, ...), integers, or probabilities t in the input's shape. Label smoothing s
    replaces t by (1 - s) t + s / C. With u_c = w_c t_c,

        dz_c = (sum_k u_k) p_c - u_c

    with 0 log 0 = 0: a score of -inf masks a class, unless it is the target. reduction="mean" divides by N, or for
    indices by the sum of the targets' weights. Targets equal to `ignore_index` count for nothing; the mean over none
    is NaN, its gradient 0.
    """

    def __init__(self, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        super().__init__(weight, reduction)
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"CrossEntropyLoss: label_smoothing must be from 0 to 1, not {label_smoothing}")
        self.ignore_index, self.label_smoothing = ignore_index, float(label_smoothing)

    @UNDERFLOW_TO_ZERO
    def forward(self, input, target):
        self.check(input, target)
        xp, axis = array_module(input), min(1, input.ndim - 1)
        with np.errstate(over="ignore"):  # a score too far below the largest: its p is 0
            shifted = input - input.real.max(axis=axis, keepdims=True)
        log_p = shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))
        u, counted = self.weighted_targets(input, target, axis)
        self.cache = log_p, u, counted, axis
        loss = -(u * xp.where(u != 0, log_p, xp.zeros_like(log_p))).sum(axis=axis)
        if self.reduction != "mean":
            return self.reduce(loss)
        with np.errstate(invalid="ignore"):  # 0 / 0 where every target is ignored
            return loss.sum() / counted

    @UNDERFLOW_TO_ZERO
    def backward(self, dy=None):
        log_p, u, counted, axis = self.kept()
        xp = array_module(log_p)
        dy = self.checked_dy(dy, log_p.shape[:axis] + log_p.shape[axis + 1:])
        dz = u.sum(axis=axis, keepdims=True) * xp.exp(log_p) - u
        if self.reduction == "mean":
            return dz / xp.where(counted == 0, xp.ones_like(counted), counted)
        return dz if dy is None else dz * array_module(dz).expand_dims(dy, axis)

    def weighted_targets(self, input, target, axis):
        """u = w t after smoothing, in the input's shape, and what the mean divides by."""
        xp, classes, real = array_module(input), input.shape[axis], input.real.dtype
        column = [1] * input.ndim
        column[axis] = classes
        weight = xp.ones(column, real) if self.weight is None else like(self.weight, input).reshape(column)
        if target.dtype.kind in "iu":
            index = xp.expand_dims(target, axis)
            t = (index == xp.arange(classes).reshape(column)).astype(real)
            valid = (index != self.ignore_index).astype(real)
            counted = (t * weight * valid).sum()
        else:
            t, valid = target, xp.ones((), real)
            counted = real.type(max(1, input.size // classes))
        s = self.label_smoothing
        return ((1 - s) * t + real.type(s / classes)) * weight * valid, counted

    def check(self, input, target):
        if not backend.is_array(target) or target.dtype.kind not in "iu":
            return super().check(input, target)
        if not backend.is_array(input) or input.dtype.name not in backend.DTYPES:
            raise TypeError("CrossEntropyLoss: expected a float array as input")
        axis = min(1, input.ndim - 1)
        if input.ndim == 0 or target.shape != input.shape[:axis] + input.shape[axis + 1:]:
            raise ValueError(f"CrossEntropyLoss: for scores of shape {tuple(input.shape)} class indices have that "
                             f"shape without axis 1, not {tuple(target.shape)}")
        outside = ((target < 0) | (target >= input.shape[axis])) & (target != self.ignore_index)
        if bool(outside.any()):
            raise ValueError(f"CrossEntropyLoss: class indices must lie in 0 .. {input.shape[axis] - 1}")
        return None
