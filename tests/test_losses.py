import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch_oracle import assert_loss_like_torch, torch_module

from scratchgan import backend
from scratchgan.gradcheck import check_loss
from scratchgan.losses import REDUCTIONS, BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, MSELoss

seeds = st.integers(0, 2**32 - 1)
shapes = arrays.array_shapes(min_dims=0, max_dims=3, max_side=4)
reductions = st.sampled_from(REDUCTIONS)
LOGITS = {"MSELoss": MSELoss, "BCEWithLogitsLoss": BCEWithLogitsLoss}


def some(rng, present, shape):
    """A random positive weight of a shape that broadcasts, or None."""
    return rng.uniform(0.5, 2, shape[-1:]) if present else None


def points(kind, shape, rng):
    """(input, target) in the loss's domain."""
    x = rng.uniform(0.05, 0.95, shape) if kind == "BCELoss" else rng.standard_normal(shape)
    return np.asarray(x), np.asarray(rng.uniform(0, 1, shape))


@st.composite
def class_cases(draw):
    """(input, target, weight, ignore_index, label_smoothing, reduction) in all layouts of PyTorch's."""
    rng = np.random.default_rng(draw(seeds))
    classes, rest = draw(st.integers(2, 5)), draw(st.lists(st.integers(1, 3), max_size=2))
    shape = draw(st.sampled_from([(classes,), (draw(st.integers(1, 4)), classes, *rest)]))
    z, axis = rng.standard_normal(shape), min(1, len(shape) - 1)
    weight = rng.uniform(0.5, 2, classes) if draw(st.booleans()) else None
    ignore = -100
    if draw(st.booleans()):
        target = rng.uniform(0, 1, shape)
        target /= target.sum(axis=axis, keepdims=True)
    else:
        target = rng.integers(0, classes, shape[:axis] + shape[axis + 1:])
        ignore = draw(st.sampled_from([-100, 0, -7]))
        if ignore == -7 and target.size > 1:
            target.flat[0] = -7
        if (target == ignore).all():
            target = np.full_like(target, classes - 1)  # or the mean is 0 / 0
    smoothing = draw(st.sampled_from([0.0, 0.1, 1.0]))
    return z, target, weight, ignore, smoothing, draw(reductions)


# -- gradients -----------------------------------------------------------------------------------------------------


@given(shapes, reductions, seeds)
def test_mse_gradient(shape, reduction, seed):
    check_loss(MSELoss(reduction), *points("MSELoss", shape, np.random.default_rng(seed)), seed=seed).raise_if_failed()


@given(shapes, reductions, st.booleans(), seeds)
def test_bce_gradient(shape, reduction, weighted, seed):
    rng = np.random.default_rng(seed)
    loss = BCELoss(some(rng, weighted, shape), reduction)
    check_loss(loss, *points("BCELoss", shape, rng), seed=seed).raise_if_failed()


@given(shapes, reductions, st.booleans(), st.booleans(), seeds)
def test_bce_with_logits_gradient(shape, reduction, weighted, positive, seed):
    rng = np.random.default_rng(seed)
    loss = BCEWithLogitsLoss(some(rng, weighted, shape), reduction, some(rng, positive, shape))
    check_loss(loss, *points("", shape, rng), seed=seed).raise_if_failed()


@given(class_cases(), seeds)
def test_cross_entropy_gradient(case, seed):
    z, target, weight, ignore, smoothing, reduction = case
    loss = CrossEntropyLoss(weight, ignore, reduction, smoothing)
    check_loss(loss, z, target, seed=seed).raise_if_failed()


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("kind", [MSELoss, BCELoss, BCEWithLogitsLoss, CrossEntropyLoss])
def test_gradient_on_each_device(device, kind, reduction):
    rng = np.random.default_rng(1)
    z, t = (backend.to_device(a, device) for a in points(kind.__name__, (3, 2), rng))
    weight = backend.to_device(np.array([0.5, 2.0]), device)
    loss = kind(reduction) if kind is MSELoss else kind(weight, reduction=reduction)
    if kind is BCEWithLogitsLoss:
        loss.pos_weight = 3 * weight
    check_loss(loss, z, t).raise_if_failed()
    if kind is CrossEntropyLoss:
        target = backend.to_device(np.array([1, 0, -100]), device)
        check_loss(CrossEntropyLoss(weight, label_smoothing=0.1, reduction=reduction), z, target).raise_if_failed()


# -- PyTorch -------------------------------------------------------------------------------------------------------


@given(shapes, reductions, seeds)
def test_mse_like_torch(shape, reduction, seed):
    nn = torch_module().nn
    x, t = points("MSELoss", shape, np.random.default_rng(seed))
    assert_loss_like_torch(MSELoss(reduction), lambda _: nn.MSELoss(reduction=reduction), x, t, seed)


@given(shapes, reductions, st.booleans(), seeds)
def test_bce_like_torch(shape, reduction, weighted, seed):
    nn, rng = torch_module().nn, np.random.default_rng(seed)
    weight = some(rng, weighted, shape)
    assert_loss_like_torch(
        BCELoss(weight, reduction),
        lambda tensor: nn.BCELoss(None if weight is None else tensor(weight), reduction=reduction),
        *points("BCELoss", shape, rng), seed)


@given(shapes, reductions, st.booleans(), st.booleans(), seeds)
def test_bce_with_logits_like_torch(shape, reduction, weighted, positive, seed):
    nn, rng = torch_module().nn, np.random.default_rng(seed)
    weight, pos_weight = some(rng, weighted, shape), some(rng, positive, shape)
    def module(tensor):
        return nn.BCEWithLogitsLoss(None if weight is None else tensor(weight), reduction=reduction,
                                    pos_weight=None if pos_weight is None else tensor(pos_weight))
    assert_loss_like_torch(BCEWithLogitsLoss(weight, reduction, pos_weight), module, *points("", shape, rng), seed)


@given(class_cases(), seeds)
def test_cross_entropy_like_torch(case, seed):
    nn = torch_module().nn
    z, target, weight, ignore, smoothing, reduction = case
    def module(tensor):
        return nn.CrossEntropyLoss(None if weight is None else tensor(weight), ignore_index=ignore,
                                   reduction=reduction, label_smoothing=smoothing)
    assert_loss_like_torch(CrossEntropyLoss(weight, ignore, reduction, smoothing), module, z, target, seed)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignore", [1, -7])
@pytest.mark.parametrize("weight", [None, np.array([0.5, 1.0, 2.0])], ids=["unweighted", "weighted"])
def test_every_option_of_cross_entropy_like_torch(weight, ignore, smoothing, reduction):
    """Every combination surely, with targets that are ignored and some that are not."""
    z = np.random.default_rng(0).standard_normal((4, 3, 2))
    target = np.array([[0, 1], [2, ignore], [0, 0], [1, 2]])
    loss = CrossEntropyLoss(weight, ignore, reduction, smoothing)
    nn = torch_module().nn
    def module(tensor):
        return nn.CrossEntropyLoss(None if weight is None else tensor(weight), ignore_index=ignore,
                                   reduction=reduction, label_smoothing=smoothing)
    assert_loss_like_torch(loss, module, z, target)


@pytest.mark.parametrize("target", [0.0, 0.25, 1.0])
def test_bce_at_the_ends_like_torch(target):
    nn = torch_module().nn
    p = np.array([0.0, 1.0, 1e-40, 1e-30, 1e-13, 0.5, 1 - 2.0**-24])
    for reduction in REDUCTIONS:
        module = nn.BCELoss(reduction=reduction)
        loss = BCELoss(reduction=reduction)
        assert_loss_like_torch(loss, lambda _, module=module: module, p, np.full_like(p, target))


@pytest.mark.parametrize("make", [lambda weight: BCELoss(weight), lambda weight: BCEWithLogitsLoss(weight),
                                  lambda weight: BCEWithLogitsLoss(pos_weight=weight)])
def test_a_weight_must_go_with_each_element(make):
    """Such as one for each sample beside scores (N, 1): it would make N x N of them."""
    x = np.full((3, 1), 0.5, np.float32)
    for weight in ([1, 2, 3], np.ones((1, 3, 1)), np.ones((2, 1))):
        with pytest.raises(ValueError, match=r"weight has shape \(.*\), which does not go with an input of"):
            make(weight).forward(x, x)
    assert make([[1], [2], [3]]).forward(x, x) == pytest.approx(make(2.0).forward(x, x))


# -- pinned apart --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bce_at_the_ends(device, dtype):
    """PyTorch's conventions: logarithms clamped at -100, the gradient's denominator at 1e-12."""
    loss = BCELoss(reduction="none")
    p = backend.to_device(np.array([0, 0, 1, 1], dtype), device)
    t = backend.to_device(np.array([0, 1, 0, 1], dtype), device)
    assert loss.forward(p, t).tolist() == [0, 100, 100, 0]
    gradient = loss.backward()
    assert gradient.dtype == dtype
    np.testing.assert_allclose(backend.to_host(gradient), [0, -1e12, 1e12, 0], rtol=1e-6)


def test_bce_keeps_the_digits_of_small_probabilities(device):
    p = backend.to_device(np.array([1e-9, 1e-20], np.float32), device)
    assert backend.to_host(BCELoss(reduction="none").forward(p, 0 * p)) == pytest.approx([1e-9, 1e-20], rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_at_any_logit(device, dtype):
    z = backend.to_device(np.array([-1e4, 1e4, -1e4, 1e4], dtype), device)
    t = backend.to_device(np.array([0, 1, 1, 0], dtype), device)
    loss = BCEWithLogitsLoss(reduction="none")
    assert loss.forward(z, t).tolist() == [0, 0, 1e4, 1e4]
    assert loss.backward().tolist() == [0, 0, -1, 1]
    pairs, classes = z.reshape(2, 2), backend.to_device(np.array([0, 1]), device)
    loss = CrossEntropyLoss(reduction="none")
    assert loss.forward(pairs, classes).tolist() == [2e4, 0]
    assert loss.backward().tolist() == [[-1, 1], [0, 0]]
    loss = MSELoss()
    loss.forward(z, t)
    assert np.isfinite(backend.to_host(loss.backward())).all()


def test_by_hand():
    x, t = np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]])
    assert MSELoss()(x, t) == 2.5
    assert MSELoss("sum")(x, t) == 5
    assert MSELoss("none")(x, t).tolist() == [[1, 4]]
    assert BCEWithLogitsLoss()(np.zeros(3), np.ones(3)) == pytest.approx(math.log(2), rel=1e-15)
    assert BCELoss(weight=2.0)(np.array([0.5]), np.array([1.0])) == pytest.approx(2 * math.log(2), rel=1e-15)
    assert CrossEntropyLoss()(np.zeros((2, 4)), np.array([3, 0])) == pytest.approx(math.log(4), rel=1e-15)


def test_ignored_targets_count_for_nothing():
    z = np.random.default_rng(0).standard_normal((4, 3))
    loss, part = CrossEntropyLoss(label_smoothing=0.2), CrossEntropyLoss(label_smoothing=0.2)
    value = loss.forward(z, np.array([0, -100, 2, -100]))
    assert value == pytest.approx(part.forward(z[::2], np.array([0, 2])), rel=1e-15)
    gradient = loss.backward()
    assert np.array_equal(gradient[::2], part.backward()) and not gradient[1::2].any()


@pytest.mark.parametrize("weight", [[0.5, 2.0], 1.5, np.array([0.5, 2.0]), np.array([1, 3])], ids=repr)
def test_a_weight_of_any_kind_does_not_change_the_precision(weight):
    x = np.full((3, 2), 0.5, np.float32)
    for loss in (BCELoss(weight), BCEWithLogitsLoss(weight), BCEWithLogitsLoss(pos_weight=weight)):
        assert loss.forward(x, x).dtype == np.float32
        assert loss.backward().dtype == np.float32


@pytest.mark.parametrize("reduction, shape", [("sum", ()), ("none", (0, 3))])
def test_empty_batch(device, reduction, shape):
    x = backend.to_device(np.zeros((0, 3), np.float32), device)
    for loss in (MSELoss(reduction), BCELoss(reduction=reduction), BCEWithLogitsLoss(reduction=reduction)):
        y = loss.forward(x, x)
        assert y.shape == shape and not backend.to_host(y).any()
        assert loss.backward().shape == (0, 3)


@pytest.mark.parametrize("kind", LOGITS)
def test_errors_name_the_loss(kind):
    loss, x = LOGITS[kind](), np.zeros((2, 3), np.float32)
    for arguments, error, words in (
            ((x, x[:1]), ValueError, rf"{kind}: input has shape \(2, 3\), target \(1, 3\); they must be equal"),
            ((x, x.astype("float64")), TypeError, f"{kind}: input is float32, target float64"),
            ((x.astype(int), x), TypeError, f"{kind}: expected a float array as input, got int64"),
            ((x, x.tolist()), TypeError, f"{kind}: expected a float array as target, got list")):
        with pytest.raises(error, match=words):
            loss.forward(*arguments)
    with pytest.raises(RuntimeError, match=f"{kind}: backward needs a forward pass first"):
        LOGITS[kind]().backward()
    loss.forward(x, x)
    with pytest.raises(ValueError, match=f'{kind}: dy is only for reduction="none"'):
        loss.backward(np.float32(1))
    with pytest.raises(ValueError, match=f'{kind}: reduction must be "mean", "sum" or "none", not \'max\''):
        LOGITS[kind](reduction="max")
    loss = LOGITS[kind](reduction="none")
    loss.forward(x, x)
    with pytest.raises(ValueError, match=rf"{kind}: dy has shape \(3,\), but the loss has \(2, 3\)"):
        loss.backward(x[0])


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_bce_takes_probabilities_only(p):
    with pytest.raises(ValueError, match="BCELoss: every input must be a probability from 0 to 1"):
        BCELoss().forward(np.array([0.5, p]), np.zeros(2))


def test_cross_entropy_takes_no_dy_beside_a_mean():
    loss = CrossEntropyLoss()
    loss.forward(np.zeros((2, 3)), np.array([0, 1]))
    with pytest.raises(ValueError, match='CrossEntropyLoss: dy is only for reduction="none"'):
        loss.backward(np.float64(1))


def test_cross_entropy_errors():
    z, loss = np.zeros((2, 3), np.float32), CrossEntropyLoss()
    for target in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match=r"CrossEntropyLoss: class indices must lie in 0 \.\. 2"):
            loss.forward(z, np.array(target))
    with pytest.raises(ValueError, match=r"for scores of shape \(2, 3\) class indices have that shape without axis 1"):
        loss.forward(z, np.zeros((2, 1), int))
    with pytest.raises(TypeError, match="CrossEntropyLoss: expected a float array as input"):
        loss.forward(z.astype(int), np.zeros(2, int))
    with pytest.raises(ValueError, match="label_smoothing must be from 0 to 1, not 2"):
        CrossEntropyLoss(label_smoothing=2)


# -- masked classes, ignored targets, numbers out of range ------------------------------------------------------------

INF = math.inf


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, np.array([0.5, 1.0, 2.0])], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("z, target", [
    ([[-INF, 2, 1]], [1]), ([[3e38, -3e38, 1]], [0]), ([[-INF, -INF, 5.0]], [2]),
    ([[1, 2, -INF], [-INF, 0, 0]], [0, 2]), ([[0.0, -500, 900]], [2]),
    ([[1, -INF, 3], [4, 5, -INF]], [0, -100]), ([-INF, 0.5, 1.5], 2),
    ([[[0, 1], [-INF, 2], [3, -INF]]], [[2, 0]])], ids=str)
def test_masked_classes_like_torch(z, target, weight, reduction):
    nn, z = torch_module().nn, np.array(z, np.float32).astype(float)
    def module(tensor):
        return nn.CrossEntropyLoss(None if weight is None else tensor(weight), reduction=reduction)
    assert_loss_like_torch(CrossEntropyLoss(weight, reduction=reduction), module, z, np.array(target))


def test_masked_classes(device):
    z = backend.to_device(np.array([[-INF, 2, 1], [0, -INF, 0]], "float32"), device)
    loss = CrossEntropyLoss()
    for target in (np.array([1, 2]), np.array([[0, 1, 0], [0, 0, 1]], "float32")):  # probabilities, too
        value = loss.forward(z, backend.to_device(target, device))
        assert float(value) == pytest.approx((math.log(1 + math.exp(-1)) + math.log(2)) / 2, rel=1e-6)
        gradient = backend.to_host(loss.backward())
        p = 1 / (1 + math.exp(1))
        np.testing.assert_allclose(gradient, [[0, -p / 2, p / 2], [0.25, 0, -0.25]], atol=1e-7)
    assert float(loss.forward(z, backend.to_device(np.array([0, 0]), device))) == INF


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 3.0]], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_all_targets_ignored_like_torch(reduction, weight, smoothing):
    torch, z, target = torch_module(), np.zeros((2, 3), np.float32), np.array([-100, -100])
    loss = CrossEntropyLoss(weight, reduction=reduction, label_smoothing=smoothing)
    theirs = torch.nn.CrossEntropyLoss(None if weight is None else torch.tensor(weight), reduction=reduction,
                                       label_smoothing=smoothing)
    x = torch.tensor(z, requires_grad=True)
    expected = theirs(x, torch.tensor(target))
    np.testing.assert_array_equal(loss(z, target), expected.detach().numpy())
    expected.sum().backward()
    np.testing.assert_array_equal(loss.backward(), x.grad.numpy())
    assert not loss.backward().any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_results_that_are_zero_raise_nothing(dtype, reduction):
    """Where a caller has NumPy raise on everything: e^-200 is 0, and that is right."""
    far = np.array([[-200, 200], [-1e4, 1e4], [1e30, -1e30], [-104, 104], [3e-39, 700]], dtype)
    hard, soft = np.array([[0, 1]] * 5, dtype), np.full((5, 2), 1e-30, dtype)
    classes = np.array([1, 1, 0, 1, 1])
    with np.errstate(all="raise"):
        for loss, input, target in (
                (BCEWithLogitsLoss(reduction=reduction), far, hard),
                (BCEWithLogitsLoss(reduction=reduction), far, soft),
                (BCEWithLogitsLoss(weight=1e-30, reduction=reduction, pos_weight=1e-20), far, hard),
                (CrossEntropyLoss(reduction=reduction), far, classes),
                (CrossEntropyLoss(reduction=reduction, label_smoothing=0.1), far, classes),
                (CrossEntropyLoss(reduction=reduction), far, soft),
                (CrossEntropyLoss(reduction=reduction), np.array([[3e38, -3e38]], dtype), classes[:1] * 0),
                (CrossEntropyLoss(reduction=reduction), far[:2], classes[:2] * 0 - 100),
                (BCELoss(reduction=reduction), np.array([0, 1, 1e-40, 1e-30], dtype), np.array([0, 1, 0, 0], dtype)),
                (MSELoss(reduction), np.array([1e-30, 2e-38], dtype), np.zeros(2, dtype))):
            loss.forward(input, target)
            loss.backward()
            if reduction == "none":
                loss.backward(np.full(loss.forward(input, target).shape, 1e-30, dtype))


def test_a_loss_that_does_overflow_is_told_to_whoever_asks():
    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="overflow"):
        MSELoss()(np.full(3, 1e30, np.float32), np.zeros(3, np.float32))
