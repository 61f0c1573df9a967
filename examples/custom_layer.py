"""A layer of one's own, its gradient checked, and a mistake in it found.

Swish with a slope that is learned, one for each feature (Ramachandran et al. 2017): y = x sigmoid(beta x). The
checker passes it, and names what is wrong in a copy whose backward pass uses the formula for beta = 1, which many
texts give. Then the layer learns a curve.

    python examples/custom_layer.py              # seconds
    scratchgan gradcheck custom_layer:Swish      # the same check from the command line, in examples/

Writes custom_layer.png: on the left why the complex step is the first oracle (the error of three numerical
derivatives against their step), on the right the curve learned.
"""

import argparse
from pathlib import Path

import numpy as np

from scratchgan import initializers
from scratchgan.gradcheck import check_layer, table
from scratchgan.layers import Layer, Linear, Sequential
from scratchgan.losses import MSELoss
from scratchgan.optimizers import Adam


class Swish(Layer):
    """y = x s with s = sigmoid(beta x); x (N, features), beta (features,).

    As s' = s (1 - s):   dx = dy (s + beta x s (1 - s))        dbeta = sum_n dy x^2 s (1 - s)
    """

    def __init__(self, features=3):
        super().__init__()
        self.features = features
        self.input_shape = (4, features)  # for the checker
        self.add_parameter("beta", ((features,), initializers.uniform(0.5, 1.5)))

    def forward(self, x):
        s = self.ops(x).sigmoid(self.params["beta"] * x)
        return self.keep(x * s, x, s)                                   # y, and what backward needs

    def backward(self, dy, wrt="all"):
        x, s = self.kept(dy, wrt)
        slope = s * (1 - s)
        if wrt in ("all", "params"):
            self.accumulate("beta", (dy * x * x * slope).sum(axis=0))   # dbeta
        return None if wrt == "params" else dy * (s + self.params["beta"] * x * slope)


class WrongSwish(Swish):
    """The formula for beta = 1: right for a new layer of many libraries, wrong once beta has moved."""

    def backward(self, dy, wrt="all"):
        super().backward(dy, wrt)
        x, s = self.kept(dy, wrt)
        return None if wrt == "params" else dy * (s + x * s * (1 - s))


def errors_of_differences(points):
    """Relative error of dy/dx at one point by three numerical derivatives, for steps from 1 to 1e-16."""
    layer, x = Swish(1).to(dtype="float64"), np.array([[0.7]])
    layer.forward(x)
    exact = layer.backward(np.ones((1, 1))).item()
    steps = np.logspace(0, -16, points)

    def f(x):
        return layer.twin().forward(x).item()

    ways = {
        "one-sided: (f(x + h) - f(x)) / h": [(f(x + h) - f(x)) / h for h in steps],
        "central: (f(x + h) - f(x - h)) / 2h": [(f(x + h) - f(x - h)) / (2 * h) for h in steps],
        "complex step: Im f(x + ih) / h": [f(x + 1j * h).imag / h for h in steps]}
    return steps, {name: np.abs(np.array(values) / exact - 1) for name, values in ways.items()}


def learn_a_curve(steps):
    """(x, target, what the network makes of it) after `steps` steps of Adam."""
    x = np.linspace(-3, 3, 200, dtype=np.float32)[:, None]
    target = np.sin(2 * x) * np.exp(-x * x / 4)
    network = Sequential(Linear(1, 24), Swish(24), Linear(24, 1)).initialize(0)
    loss, optimizer = MSELoss(), Adam(network, lr=1e-2)
    for step in range(steps):
        value = loss.forward(network.forward(x), target)
        if step == 0:
            print(f"mean squared error before training {float(value):.4f}", end="")
        optimizer.zero_grad()
        network.backward(loss.backward(), wrt="params")
        optimizer.step()
    print(f", after {steps} steps {float(loss.forward(network.forward(x), target)):.6f}")
    return x, target, network.forward(x)


def picture(errors, curve, path):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    steps, ways = errors
    for (name, error), style in zip(ways.items(), ("o-", "s-", "k.-"), strict=True):
        left.loglog(steps, np.maximum(error, 1e-17), style, label=name, markersize=4)
    left.invert_xaxis()
    left.set(xlabel="step h", ylabel="relative error of dy/dx", title="Numerical derivatives of Swish, float64")
    left.legend(loc="lower left")
    x, target, made = (array[:, 0] for array in curve)
    right.plot(x, target, color="0.7", linewidth=5, label="target")
    right.plot(x, made, "k", label="Linear, Swish, Linear")
    right.set(xlabel="x", title="A curve learned with the new layer")
    right.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    print(f"Wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("runs/examples"), help="for what it writes")
    parser.add_argument("--short", action="store_true", help="fewer points and steps")
    args = parser.parse_args()

    right, wrong = check_layer(Swish()), check_layer(WrongSwish())
    print(table([right, wrong]), end="\n\n")
    right.raise_if_failed()
    if wrong.wrong != ["x"]:
        raise SystemExit("The mistake in WrongSwish.backward was not found.")
    print("The mistake was found: the gradient of x is wrong, that of beta is right.\n")

    curve = learn_a_curve(300 if args.short else 2000)
    picture(errors_of_differences(17 if args.short else 65), curve, args.out / "custom_layer.png")


if __name__ == "__main__":
    main()
