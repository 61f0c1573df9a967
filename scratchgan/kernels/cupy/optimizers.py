"""Steps of optimizers, in place, in one kernel each. Their numbers may be 0-d arrays on the device."""

from functools import cache

import cupy


@cache
def step(numbers, vectors, code):
    """A kernel that changes theta and the `vectors`, by the gradient g and `numbers`."""
    inputs = ", ".join(f"T {name}" for name in ("g", *numbers.split()))
    outputs = ", ".join(f"T {name}" for name in ("theta", *vectors.split()))
    return cupy.ElementwiseKernel(inputs, outputs, code, "scratchgan_step")


def adam(theta, grad, m, v, beta1, beta2, rate, eps):
    step("beta1 beta2 rate eps", "m v", """
        m = beta1 * m + g;
        v = beta2 * v + g * g;
        theta -= rate * m / (sqrt(v) + eps);
    """)(grad, beta1, beta2, rate, eps, theta, m, v)


def momentum(theta, grad, v, factor, rate):
    step("factor rate", "v", "v = factor * v - rate * g; theta += v;")(grad, factor, rate, theta, v)


def sgd(theta, grad, b, factor, share, rate, nesterov):
    if b is None:
        step("rate", "", "theta -= rate * g;")(grad, rate, theta)
    else:
        direction = "g + factor * b" if nesterov else "b"
        step("factor share rate", "b", f"b = factor * b + share * g; theta -= rate * ({direction});")(
            grad, factor, share, rate, theta, b)


def rmsprop(theta, grad, v, mean, b, alpha, eps, factor, rate):
    vectors = {name: vector for name, vector in {"v": v, "mean": mean, "b": b}.items() if vector is not None}
    step("alpha share eps factor rate", " ".join(vectors), f"""
        v = alpha * v + share * (g * g);
        T spread = v;
        {"mean = alpha * mean + share * g; spread = max(v - mean * mean, T(0));" if "mean" in vectors else ""}
        T direction = g / (sqrt(spread) + eps);
        {"direction = b = factor * b + direction;" if "b" in vectors else ""}
        theta -= rate * direction;
    """)(grad, alpha, 1 - alpha, eps, factor, rate, theta, *vectors.values())


_moving_average = cupy.ElementwiseKernel("T theta, T share", "T average", "average += share * (theta - average)",
                                        "scratchgan_moving_average")


def moving_average(average, theta, share):
    _moving_average(theta, share, average)
