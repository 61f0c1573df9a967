"""`Classifier`: a network that tells the classes of images, trained by cross-entropy."""

import numpy as np

from scratchgan import backend, random
from scratchgan.gan.checks import check_batch
from scratchgan.gan.latent import whole
from scratchgan.layers import Sequential
from scratchgan.losses import CrossEntropyLoss
from scratchgan.system import Metrics, Panel, System, scaled

AT_ONCE = 200  # images in one forward pass: their activations stay in the cache
MEASURED = 1000  # held-out images that are looked at in each interval of a run


class Classifier(System):
    """A network that learns the classes c of images x: the mean over the batch of

        loss = -log p_c,  p = softmax(network(x))                    d loss / d scores = p - (1 at c, 0 elsewhere)

    network       images (N, *sample_shape) -> scores (N, classes), a Sequential
    body          how many of its layers make the features: all but the last unless said
    sample_shape  (C, H, W) of one image; its values are from 0 to 1
    classes       how many there are, 2 or more
    shift         in training each image is moved by up to so many pixels along both axes, zeros coming in: a function
                  of (seed, step, index of the image)
    held_out      a function that gives (images, labels) of which none is learned from, or None; `measure` asks it
    """

    value_range = (0, 1)
    panels = (Panel("cross-entropy (nats)", {"loss": "loss"}),
              Panel("images taken for what they are", {"accuracy": "accuracy in training",
                                                       "accuracy_held_out": "of held-out images"}),
              Panel("norm of the gradient (L2)", {"grad_norm_classifier": "gradient"}, "log"))

    def __init__(self, network, optimizer, *, sample_shape, classes, body=None, shift=0, held_out=None,
                 seed=0):
        if not isinstance(network, Sequential) or len(network) < 2:
            raise TypeError("Classifier: network must be a Sequential of two layers or more, the last giving scores, "
                            f"not {network!r}")
        if getattr(optimizer, "network", None) is not network:
            raise ValueError("Classifier: optimizer is not one of the network: make it from it, such as Adam(network)")
        self.network, self.networks, self.optimizers = network, {"classifier": network}, {"classifier": optimizer}
        self.sample_shape = tuple([whole(n, "Classifier: a size in sample_shape", 1) for n in sample_shape])
        self.classes = whole(classes, "Classifier: classes", 2)
        self.shift, self.seed = whole(shift, "Classifier: shift"), whole(seed, "Classifier: seed")
        self.body = whole(len(network) - 1 if body is None else body, "Classifier: body", 1)
        self.held_out = held_out

    # -- a step ------------------------------------------------------------------------------------------------------

    def step(self, batch, labels=None):
        """The network learns from these images and their labels (N,), whole numbers below `classes`."""
        self.draw_from(self.steps)
        metrics = self.gradient(batch, labels)
        self.update("classifier")
        self.steps += 1
        return Metrics(metrics)

    def gradient(self, batch, labels=None):
        """The network's grad = d loss / d theta. Returns the loss and the accuracy in this batch."""
        x, loss = self.prepared(batch), CrossEntropyLoss()
        labels = self.checked(labels, len(x))
        if self.shift:
            side = 2 * self.shift + 1
            u = random.uniform((len(x), 2), self.seed, "classifier/shift", self.steps)
            moves = np.minimum((u * side).astype(np.int64), side - 1) - self.shift
            x = shifted(x, backend.to_device(moves, self.network.device), self.shift)
        scores = self.network.forward(x)
        value = loss(scores, labels)
        self.network.zero_grad()
        self.network.backward(loss.backward(), "params")
        return {"loss": value, "accuracy": (scores.real.argmax(axis=1) == labels).mean()}

    def prepared(self, batch):
        """The batch on the network's device, in its dtype, from 0 to 1."""
        check_batch(self, batch)
        x = backend.to_device(batch, self.network.device)
        return scaled(x, self.value_range).astype(self.network.dtype, copy=False)

    def checked(self, labels, n):
        """The labels, (n,) on the network's device; their values are looked at on the host only."""
        labels = labels if backend.is_array(labels) else np.asarray(labels)
        if labels.dtype.kind not in "iu" or labels.shape != (n,):
            raise ValueError(f"Classifier: expected labels, one whole number for each of {n} images, got "
                             f"{labels.dtype} of shape {tuple(labels.shape)}")
        if backend.device_of(labels) == "cpu" and not 0 <= labels.min() <= labels.max() < self.classes:
            raise ValueError(f"Classifier: labels must be from 0 to {self.classes - 1}, got {labels.min()} to "
                             f"{labels.max()}")
        return backend.to_device(labels, self.network.device)

    # -- what it knows -----------------------------------------------------------------------------------------------

    def features(self, images):
        """What the body makes of images (N, *sample_shape), uint8 or in [0, 1]; of maps the mean over all positions:
        float32 (N, F), on the host."""
        return self.features_and_probabilities(images)[0]

    def probabilities(self, images):
        """softmax of the scores: float32 (N, classes), on the host."""
        return self.features_and_probabilities(images)[1]

    def features_and_probabilities(self, images):
        """Both, by one pass in eval mode."""
        network = self.network.twin().eval()
        body, head, parts = network[:self.body], network[self.body:], []
        for start in range(0, len(images) or 1, AT_ONCE):  # of no images `prepared` says that they are none
            h = body.forward(self.prepared(images[start:start + AT_ONCE]))
            features = h.mean(axis=tuple(range(2, h.ndim))) if h.ndim > 2 else h
            parts.append([backend.to_host(each).astype(np.float32, copy=False) for each in (features, head.forward(h))])
        features, scores = map(np.concatenate, zip(*parts, strict=True))
        return features, softmax(scores)

    def accuracy(self, images, labels):
        """The share of images whose most probable class is their label."""
        return float((self.probabilities(images).argmax(axis=1) == labels).mean())

    def measure(self):
        """Accuracy on 1,000 held-out images, evenly spread over all of them."""
        held_out = self.held_out and self.held_out()
        if not held_out:
            return {}
        images, labels = held_out
        every = max(1, len(images) // MEASURED)
        return {"accuracy_held_out": self.accuracy(images[::every], labels[::every])}

    def about(self):
        return {"objective": "cross-entropy of the class"}


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def shifted(x, moves, most):
    """Images (N, C, H, W) moved down and right by moves (N, 2), whole numbers from -most to most; zeros come in."""
    xp, (n, c, h, w) = backend.array_module(x), x.shape
    padded = xp.zeros((n, c, h + 2 * most, w + 2 * most), x.dtype)
    padded[:, :, most:most + h, most:most + w] = x
    rows, columns = (xp.arange(size) + most - moves[:, i:i + 1] for i, size in enumerate((h, w)))  # (N, H), (N, W)
    image, channel = xp.arange(n).reshape(n, 1, 1, 1), xp.arange(c).reshape(1, c, 1, 1)
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
