"""Where layers write their results: fresh arrays, or inside `workspace()` the same memory at every pass."""

import math
from contextlib import contextmanager

import numpy as np

from scratchgan import backend


class Block:
    """Memory for one array after the other, of any shape: it grows to the largest."""

    def __init__(self):
        self.bytes, self.views = None, {}

    def array(self, shape, dtype, order, xp):
        key = shape, dtype, order, xp
        if key not in self.views:
            size = math.prod(shape) * np.dtype(dtype).itemsize
            if self.bytes is None or backend.array_module(self.bytes) is not xp or self.bytes.size < size:
                self.bytes, self.views = None, {}  # the old one goes before the new one comes
                self.bytes = backend.empty((size,), np.uint8, xp=xp)
            array = self.bytes[:size].view(dtype)
            self.views[key] = array.reshape(shape[::-1]).T if order == "F" else array.reshape(shape)
        return self.views[key]


class Passing:
    """Memory for the gradients that layers pass down: each reads one while it writes the next, so that two blocks
    serve a whole network."""

    def __init__(self):
        self.blocks = [Block(), Block()]

    def array(self, *kind):
        self.blocks.reverse()
        return self.blocks[0].array(*kind)


class Memory:
    """The part of `Layer` that lends arrays.

    chain  whether the layers inside hand gradients straight from one to the next, so that they share the memory for
           them; another container may still need one while a layer inside makes its own
    """

    chain = False

    def __init__(self):
        self._blocks, self._in_workspace = {}, 0
        self._passing, self._own_passing = None, Passing()  # the one in use, while in a workspace

    @contextmanager
    def workspace(self, beside=None):
        """Inside, layers reuse their buffers from pass to pass; arrays got there are valid until the next pass.

        A gradient that one layer hands to the next is valid until that one has handed on its own. A network `beside`
        another that is in its workspace shares the memory for these: their backward passes must not alternate.
        """
        everyone = [layer for _, layer in self.walk()]
        passing = self._own_passing if beside is None else beside._passing
        self._passing = self._passing or passing
        for layer in everyone:
            layer._in_workspace += 1
            inside = layer.chain and (passing if layer is self else layer._own_passing)
            for child in layer.layers.values():
                child._passing = child._passing or inside or child._own_passing
        try:
            yield self
        finally:
            for layer in everyone:
                layer._in_workspace -= 1
                layer._passing = layer._passing if layer._in_workspace else None

    def empty(self, slot, shape, dtype, order="C", xp=None):
        """An array to write a result into: fresh, or inside `workspace()` the memory lent for `slot` before, whatever
        the shape: a slot holds one array at a time.

        The slot "dx" is for the gradient that `backward` returns, once a pass.
        """
        xp = xp or self.xp
        if not self._in_workspace:
            return xp.empty(shape, dtype, order)
        memory = self._passing if slot == "dx" else self._blocks.get(slot)
        if memory is None:
            memory = self._blocks[slot] = Block()
        return memory.array(shape, dtype, order, xp)

    def empty_like(self, slot, x):
        """`empty` in the shape, dtype and memory order of x."""
        xp, flags = backend.array_module(x), x.flags
        if x.ndim > 2 and not flags.c_contiguous:
            return self.empty_along(slot, x.shape, x.dtype, backend.memory_order(x), xp)
        order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
        return self.empty(slot, x.shape, x.dtype, order, xp)

    def empty_along(self, slot, shape, dtype, axes, xp=None):
        """`empty` whose memory holds the axes in this order: axes[0] is the slowest."""
        sizes = [shape[axis] for axis in axes]
        stored = self.empty(slot, tuple(sizes), dtype, xp=xp)
        return stored.transpose(sorted(range(len(axes)), key=axes.__getitem__))

    def own(self, view):
        """A view of the caller's array made safe to hand out: inside `workspace()` itself, else copied in its order."""
        return view if self._in_workspace else view.copy(order="K")
