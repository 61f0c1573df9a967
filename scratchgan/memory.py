"""NumPy's memory, used again: what a step's arrays have left serves those of the next.

Fresh memory for every result costs a training step two to three times its own time, since the system hands out pages on
first touch. So blocks are kept. An array is given out as a view of a block, every view of it holds the block as its
base, and CPython counts references: a block that nobody but the pool refers to is free. No array is ever given back by
hand, and none that somebody still holds is given out again.

How many references a free block has depends on the Python, so it is counted at import by the very function that asks
later. Where a test then finds that a held block counts as free, or a free one as held, or where Python runs without its
global lock, `Pool.works` is False and all memory is NumPy's own.

Two ways were measured beside fixed workspaces by layer, which this replaced: see benchmarks/README.md, "Memory".
"""

import sys
import threading
from sys import getrefcount

import numpy as np

SMALLEST = 1 << 14  # bytes: below, NumPy's own memory is as fast
CLASSES = 8         # sizes of blocks from one power of two to the next: at most an eighth of a block is unused
IDLE = 1024         # loans, or 16 for each block there is: free blocks that were not lent in so many are let go of
OFTEN = 4096        # loans from one look for such blocks to the next; each new block is an occasion, too


class Block:
    """Bytes from `start` on, a cache line; `loan` is the number of its last loan."""

    __slots__ = ("bytes", "loan", "start")

    def __init__(self, size):
        # Empty memory, as many bytes as asked for from a cache line of 64 bytes on: NumPy's own large arrays start 16
        # bytes after one, so that each load of 64 bytes touches two, which costs an elementwise pass about a tenth.
        self.bytes = np.empty(size + 64, np.uint8)
        self.start = -self.bytes.ctypes.data % 64
        self.loan = 0


class Pool(threading.local):
    """The blocks of one thread, by size: a list for each class."""

    works = False
    references = None  # to the bytes of a free block, as `free` counts them

    def __init__(self):
        self.blocks, self.loans = {}, 0
        self.class_of = {}  # size -> the list in `blocks` that serves it

    def array(self, shape, dtype, order, size):
        """An uninitialised array of `size` bytes."""
        blocks = self.class_of.get(size)
        if blocks is None:
            blocks = self.class_of[size] = self.blocks.setdefault(rounded(size), [])
        self.loans += 1
        if self.loans % OFTEN == 0:
            self.trim()
        block = self.free(blocks)
        if block is None:
            self.trim()
            block = Block(rounded(size))
            blocks.append(block)
        block.loan = self.loans
        return np.ndarray(shape, dtype, block.bytes, block.start, None, order)

    def free(self, blocks):
        """The first of these blocks that nobody else refers to, or None."""
        references = self.references
        for block in blocks:
            if getrefcount(block.bytes) == references:
                return block
        return None

    def trim(self):
        """Let go of free blocks that nothing has asked for in a while, such as those of a larger batch."""
        oldest = self.loans - max(IDLE, 16 * sum(map(len, self.blocks.values())))
        for blocks in self.blocks.values():
            blocks[:] = [block for block in blocks
                         if block.loan > oldest or getrefcount(block.bytes) != self.references]

    def clear(self):
        """Let go of all blocks, for a caller who is done: those that are held go when their arrays do."""
        self.blocks.clear()
        self.class_of.clear()


def rounded(size):
    """The size of the blocks for arrays of this size."""
    step = 1 << max(0, (size - 1).bit_length() - CLASSES.bit_length())
    return -(-size // step) * step


def _references():
    """What `free` counts for a free block: the number for which it finds one; None if there is no such number."""
    pool = Pool()
    for number in range(1, 8):
        pool.references = number
        if pool.free([Block(1)]) is not None:
            return number
    return None


def _passes_test():
    """Whether a pool gives out again what is free, and only that."""
    pool = Pool()
    first = pool.array((4, 8), np.dtype("float32"), "C", 128)
    view, address = first[1:].T, first.ctypes.data
    second = pool.array((4, 8), np.dtype("float32"), "C", 128)
    del first
    third = pool.array((4, 8), np.dtype("float32"), "C", 128)
    held = address not in (second.ctypes.data, third.ctypes.data)
    del view
    again = pool.array((32,), np.dtype("float32"), "C", 128)
    return held and again.ctypes.data == address


if sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)():
    Pool.references = _references()
    Pool.works = Pool.references is not None and _passes_test()

POOL = Pool()
