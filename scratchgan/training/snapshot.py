"""The last good state, kept in memory, and the check that it is good."""

import copy
import math

import numpy as np

from scratchgan.backend import array_module


def arrays(system):
    """{(kind, name, key): array} of all that training changes, the arrays themselves; of a plain number a copy."""
    found = {}
    for name, network in system.networks.items():
        found["weights", name, ""] = network.theta
        for prefix, layer in network.named_layers():
            for key, value in layer.buffers.items():
                found["buffers", name, prefix + key] = value if hasattr(value, "__setitem__") else np.asarray(value)
    for name, optimizer in system.optimizers.items():
        for key, value in optimizer.state.items():
            found["optimizer", name, key] = value
    return found


def not_finite(system):
    """"the weights of generator" or None: the first of the system's arrays that holds an infinity or no number."""
    found = arrays(system)
    finite = [array_module(value).isfinite(value).all() for value in found.values()]  # a device goes on meanwhile
    for (kind, name, _), good in zip(found, finite, strict=True):
        if not good:
            return f"the {kind} of {name}" if kind != "optimizer" else f"the optimizer's state of {name}"
    return None


def first_bad_metric(pending):
    """(index, name, value) of the first number that is not finite in a list of metrics, or None."""
    for index, values in enumerate(pending):
        for name, value in values.items():
            if not math.isfinite(value):
                return index, name, value
    return None


class Snapshot:
    """A copy of a system's state, on the system's device, in memory that is used again by the next `take`.

    It takes as much memory as weights and optimizers' state do, and 0.4 ms for 1 million of weights on a CPU.
    """

    def __init__(self):
        self.step, self.pending, self._arrays = None, [], {}

    def take(self, system, step=0, pending=()):
        old, self._arrays = self._arrays, {}
        for key, value in arrays(system).items():
            target = old.get(key)
            if target is None or target.shape != value.shape or target.dtype != value.dtype:
                target = array_module(value).empty_like(value)
            target[...] = value
            self._arrays[key] = target
        self._hypers = {name: optimizer.hyper.copy() for name, optimizer in system.optimizers.items()}
        self._system = copy.deepcopy(system.state_dict())
        self.step, self.pending = step, list(pending)
        return self

    def restore(self, system):
        for name, optimizer in system.optimizers.items():
            for key in [key for key in optimizer.state if ("optimizer", name, key) not in self._arrays]:
                del optimizer.state[key]
            optimizer.hyper[...] = self._hypers[name]
        for key, value in arrays(system).items():
            if key[0] != "buffers":  # which may be plain numbers
                value[...] = self._arrays[key]
        for name, network in system.networks.items():
            for prefix, layer in network.named_layers():
                for key in layer.buffers:
                    layer.set_buffer(key, self._arrays["buffers", name, prefix + key])
        for (kind, name, key), value in self._arrays.items():
            if kind == "optimizer" and key not in system.optimizers[name].state:
                system.optimizers[name].state[key] = value.copy()
        system.load_state_dict(copy.deepcopy(self._system))
