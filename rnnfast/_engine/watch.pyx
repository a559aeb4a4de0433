# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A watch over arrays of the caller's: whether somebody has written to them since the last look."""
import numpy as np

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef enum:
    WHOLE = 4096   # words of an array that is compared as a whole
    SAMPLES = 512  # words of a larger one, one somewhere in each of as many equal parts


cdef class Watch:
    """Copies of arrays, or of samples of them where they are large.

    Parameters
    ----------
    arrays : list of (address, bytes)
        Bytes are a multiple of four.
    """

    cdef int64_t[:, ::1] runs  # address, words
    cdef uint32_t[:, ::1] kept

    def __init__(self, list arrays):
        self.runs = np.array([(address, size // 4) for address, size in arrays], np.int64).reshape(-1, 2)
        self.kept = np.zeros((len(arrays), WHOLE), np.uint32)
        self.changed()

    def changed(self):
        """Whether a word differs from the last look's."""
        cdef int64_t i, j, count, step, GOLDEN = 2654435769
        cdef uint32_t found, differs = 0
        cdef const uint32_t *words
        cdef uint32_t *kept
        with nogil:
            for i in range(self.runs.shape[0]):
                words, count, kept = <const uint32_t *><size_t>self.runs[i, 0], self.runs[i, 1], &self.kept[i, 0]
                if count <= WHOLE:
                    if memcmp(words, kept, count * sizeof(uint32_t)):
                        memcpy(kept, words, count * sizeof(uint32_t))
                        differs = 1
                    continue
                step = count // SAMPLES
                for j in range(SAMPLES):
                    # a place in the part that follows no pattern of rows and columns: the upper bits of a product (Knuth's multiplicative hash)
                    found = words[j * step + ((<uint64_t>(<uint32_t>(j * GOLDEN)) * step) >> 32)]
                    differs |= found ^ kept[j]
                    kept[j] = found
        return differs != 0
