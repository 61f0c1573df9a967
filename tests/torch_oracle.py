"""PyTorch as the third oracle. Tests that use it are skipped, and say so, where PyTorch is not installed."""

import copy

import numpy as np
import pytest

from scratchgan.gradcheck.oracles import relative_error

TOLERANCES = {"float64": 1e-9, "float32": 1e-5}


def torch_module():
    return pytest.importorskip("torch", reason="PyTorch, the third oracle, is not installed")


def assert_close(ours, theirs, tolerance, what):
    error, where = relative_error(np.asarray(ours), theirs.detach().numpy())
    assert error <= tolerance, f"{what}: relative error {error:.1e} at {where}"


def assert_layer_like_torch(layer, module, x, seed=0):
    """Forward, dx and every parameter's gradient, in both precisions; the state dict must load strictly."""
    torch = torch_module()
    rng = np.random.default_rng(seed)
    for dtype, tolerance in TOLERANCES.items():
        mine, theirs = copy.deepcopy(layer).to(dtype=dtype), copy.deepcopy(module).to(getattr(torch, dtype))
        theirs.load_state_dict({key: torch.from_numpy(value) for key, value in mine.state_dict().items()}, strict=True)
        theirs.train(layer.training)
        x_in = np.asarray(x, dtype)
        t = torch.tensor(x_in, requires_grad=True)
        y, yt = mine.forward(x_in), theirs(t)
        dy = np.asarray(rng.standard_normal(yt.shape), dtype)
        mine.zero_grad()
        dx = mine.backward(dy)
        yt.backward(torch.tensor(dy))
        assert y.dtype == dx.dtype == dtype
        assert_close(y, yt, tolerance, f"y in {dtype}")
        assert_close(dx, t.grad, tolerance, f"dx in {dtype}")
        grads = {f"{prefix}{name}": grad for prefix, sub in mine.named_layers() for name, grad in sub.grads.items()}
        for name, parameter in theirs.named_parameters():
            assert_close(grads[name], parameter.grad, tolerance, f"{name} in {dtype}")


def assert_loss_like_torch(loss, module_of, input, target, seed=0):
    """The loss and its gradient, in both precisions. `module_of(as_tensor)` builds PyTorch's loss."""
    torch = torch_module()
    rng = np.random.default_rng(seed)
    for dtype, tolerance in TOLERANCES.items():
        def tensor(array, dtype=dtype):
            array = np.asarray(array)
            return torch.tensor(array.astype(dtype) if array.dtype.kind == "f" else array)
        z, t = tensor(input).requires_grad_(), tensor(target)
        expected = module_of(tensor)(z, t)
        y = loss.forward(z.detach().numpy(), t.numpy())
        assert np.asarray(y).dtype == dtype
        assert_close(y, expected, tolerance, f"loss in {dtype}")
        if loss.reduction == "none":
            dy = np.asarray(rng.standard_normal(expected.shape), dtype)
            expected.backward(torch.tensor(dy))
            grad = loss.backward(dy)
        else:
            expected.backward()
            grad = loss.backward()
        assert grad.dtype == dtype
        assert_close(grad, z.grad, tolerance, f"gradient in {dtype}")
