"""Tensors of the caller's: a watch over them, whether they are still those that were seen with the numbers that they had; and transposes of matrices."""
import numpy as np

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    WHOLE = 4096   # words of a tensor that is compared as a whole
    SAMPLES = 512  # words of a larger one, one somewhere in each of as many equal parts


cdef class Watch:
    """What tensors were when they were last read.

    A tensor is known by itself, its address and its version. What is written past the version, as by way of PyTorch's `.data`, is seen by looking at the numbers: at all of a
    small tensor's, at samples of a large one's.

    Parameters
    ----------
    tensors : list
        With `data_ptr()`, `_version` and `nbytes`, contiguous, of a multiple of four bytes.
    """

    cdef list tensors
    cdef int64_t[:, ::1] facts  # address, version, words
    cdef uint32_t[:, ::1] kept

    def __init__(self, list tensors):
        self.tensors = tensors
        self.facts = np.array([(t.data_ptr(), t._version, t.nbytes // 4) for t in tensors], np.int64).reshape(-1, 3)
        self.kept = np.zeros((len(tensors), WHOLE), np.uint32)
        self._look()

    def same(self, list tensors):
        """Whether these are the tensors, and nobody has written to them."""
        cdef Py_ssize_t i
        if not self.tensors or len(tensors) != len(self.tensors):
            return False
        for i in range(len(tensors)):
            tensor = tensors[i]
            if tensor is not self.tensors[i] or <int64_t>tensor._version != self.facts[i, 1] or <int64_t>tensor.data_ptr() != self.facts[i, 0]:
                return False
            if not tensor.is_contiguous():  # the same memory, read in another order: `weight.data = weight.data.t()`
                return False
        if self._look():
            self.tensors = []  # and never again
            return False
        return True

    cdef bint _look(self):
        """Whether a number differs from the last look's."""
        cdef int64_t i, j, count, step, golden = 2654435769
        cdef uint32_t found, differs = 0
        cdef const uint32_t *words
        cdef uint32_t *kept
        for i in range(self.facts.shape[0]):
            words, count, kept = <const uint32_t *><size_t>self.facts[i, 0], self.facts[i, 2], &self.kept[i, 0]
            if count <= WHOLE:
                if memcmp(words, kept, count * sizeof(uint32_t)):
                    memcpy(kept, words, count * sizeof(uint32_t))
                    differs = 1
                continue
            step = count // SAMPLES
            for j in range(SAMPLES):
                # a place in the part that follows no pattern of rows and columns: the upper bits of a product (Knuth's multiplicative hash)
                found = words[j * step + ((<uint64_t>(<uint32_t>(j * golden)) * step) >> 32)]
                differs |= found ^ kept[j]
                kept[j] = found
        return differs != 0


ctypedef fused word:
    uint32_t
    uint64_t


cdef void turn(const word *source, word *target, int64_t rows, int64_t columns) noexcept nogil:
    cdef word block[16][16]
    cdef int64_t i, j, top, left, wide, high
    for top in range(0, rows, 16):
        high = min(<int64_t>16, rows - top)
        for left in range(0, columns, 16):
            wide = min(<int64_t>16, columns - left)
            for j in range(high):
                memcpy(block[j], source + (top + j) * columns + left, wide * sizeof(word))
            for i in range(wide):
                for j in range(high):
                    target[(left + i) * rows + top + j] = block[j][i]


def transpose(size_t source, size_t target, int64_t rows, int64_t columns, int64_t itemsize):
    """Write the transpose of the contiguous matrix [rows, columns] at `source` to `target`, in blocks that pass through a small array: rows that are pages apart push each other out of the first cache.

    Parameters
    ----------
    source, target : int
        Addresses.
    rows, columns : int
    itemsize : {4, 8}
    """
    if rows * columns and (source == 0 or target == 0):
        raise ValueError("transpose: must be given memory, got an address of 0.")
    with nogil:
        if itemsize == 4:
            turn(<const uint32_t *>source, <uint32_t *>target, rows, columns)
        else:
            turn(<const uint64_t *>source, <uint64_t *>target, rows, columns)
