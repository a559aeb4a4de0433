"""Prefix beam search over the steps of one sequence, and the edit distance of two."""
from libc.math cimport INFINITY, exp, log1p
from libc.stdint cimport int64_t

import numpy as np

ctypedef struct candidate:
    double score
    int64_t code  # place in the beam * (classes + 1) + 0 for the prefix as it is, 1 + label for it and a label


cdef inline double log_add(double a, double b) noexcept nogil:
    if a < b:
        a, b = b, a
    return a if b == -INFINITY else a + log1p(exp(b - a))


cdef inline bint worse(const candidate *a, const candidate *b) noexcept nogil:
    return a.score < b.score or (a.score == b.score and a.code > b.code)


cdef class PrefixBeam:
    """The best prefixes after some steps, in log space.

    A prefix is a node of a tree; its probability is kept in two parts, of alignments that end in a blank and in its last label. Equations: A. Hannun, A. Maas,
    D. Jurafsky, A. Ng, First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs, 2014 (arXiv:1408.2873), algorithm 1.

    Parameters
    ----------
    classes, blank : int
    width : int
        Prefixes kept after each step.
    steps : int
        At most so many steps will be taken.
    """

    cdef int64_t classes, blank, width, steps, count, nodes, time
    cdef int64_t[::1] parent, label, child, sibling, place, node, new_node, taken
    cdef double[:, ::1] ending, new_ending  # rows: in a blank, in the last label, both; of each prefix in the beam
    cdef candidate[::1] heap

    def __init__(self, int64_t classes, int64_t blank, int64_t width, int64_t steps):
        if not 0 <= blank < classes or width < 1 or steps < 0:
            raise ValueError(f"PrefixBeam: blank must be a class, width positive, got {blank} of {classes} and {width}.")
        self.classes, self.blank, self.width, self.steps = classes, blank, width, steps
        size = 1 + steps * width
        self.parent, self.label, self.child, self.sibling, self.place = (np.full(size, -1, np.int64) for _ in range(5))
        self.node, self.new_node = np.zeros(width, np.int64), np.zeros(width, np.int64)
        self.taken = np.zeros(width * classes, np.int64)
        self.ending, self.new_ending = np.full((3, width), -np.inf), np.full((3, width), -np.inf)
        self.heap = np.zeros(width, np.dtype([("score", np.float64), ("code", np.int64)]))
        self.count, self.nodes, self.time = 1, 1, 0
        self.place[0] = 0
        self.ending[0, 0] = self.ending[2, 0] = 0

    def run(self, const double[:, ::1] log_p):
        """Take all steps of log probabilities (T, classes)."""
        cdef int64_t t
        self._check(log_p.shape[0], log_p.shape[1])
        with nogil:
            for t in range(log_p.shape[0]):
                self.step(&log_p[t, 0], NULL)

    def advance(self, const double[::1] log_p, const double[:, ::1] bonus):
        """Take one step; a prefix that grows by a label also gains `bonus` (prefixes, classes), in the order of :meth:`prefixes`."""
        self._check(1, log_p.shape[0])
        if bonus.shape[0] != self.count or bonus.shape[1] != self.classes:
            raise ValueError(f"advance: bonus must be of shape {(self.count, self.classes)}, got {(bonus.shape[0], bonus.shape[1])}.")
        if self.count == 0:
            return
        with nogil:
            self.step(&log_p[0], &bonus[0, 0])

    def _check(self, int64_t steps, int64_t classes):
        if classes != self.classes or self.time + steps > self.steps:
            raise ValueError(f"PrefixBeam: must be given {self.classes} classes and at most {self.steps - self.time} more steps, got {classes} and {steps}.")

    def prefixes(self):
        """Nodes of the prefixes in the beam; a prefix keeps its node."""
        return [self.node[i] for i in range(self.count)]

    def labels(self, int64_t node):
        """The labels of a node."""
        found = []
        if not 0 <= node < self.nodes:
            raise ValueError(f"labels: node must be in [0, {self.nodes}), got {node}.")
        while node > 0:
            found.append(self.label[node])
            node = self.parent[node]
        return found[::-1]

    def best(self, int64_t top):
        """The best `top` prefixes: (labels, score)."""
        order = sorted(range(self.count), key=lambda i: (-self.ending[2, i], self.node[i]))
        return [(self.labels(self.node[i]), self.ending[2, i]) for i in order[:top]]

    cdef void step(self, const double *log_p, const double *bonus) noexcept nogil:
        cdef int64_t i, c, kept = 0
        cdef double score, most = -INFINITY
        self.time += 1
        for c in range(self.classes):
            most = max(most, log_p[c])
        for i in range(self.count):
            self.stay(i, log_p, bonus)
        for i in range(self.count):
            self.offer(self.new_ending[2, i], i * (self.classes + 1), &kept)
        for i in range(self.count):
            if bonus == NULL and kept == self.width and self.ending[2, i] + most < self.heap[0].score:
                continue
            for c in range(self.classes):
                score = self.grown(i, c, log_p, bonus)
                if c != self.blank and self.taken[i * self.classes + c] != self.time and (kept < self.width or score >= self.heap[0].score):
                    self.offer(score, i * (self.classes + 1) + 1 + c, &kept)
        self.keep(kept)

    cdef inline double grown(self, int64_t i, int64_t c, const double *log_p, const double *bonus) noexcept nogil:
        """Prefix i and label c: the same label once more needs a blank between."""
        cdef double score = self.ending[0 if self.label[self.node[i]] == c else 2, i] + log_p[c]
        return score + bonus[i * self.classes + c] if bonus != NULL else score

    cdef void stay(self, int64_t j, const double *log_p, const double *bonus) noexcept nogil:
        """Prefix j as it is after one more step: a blank, its last label again, or that label after its parent, if that is in the beam too."""
        cdef int64_t node = self.node[j], label = self.label[node], i = self.place[self.parent[node]] if node else -1
        self.new_ending[0, j] = self.ending[2, j] + log_p[self.blank]
        self.new_ending[1, j] = self.ending[1, j] + log_p[label] if node else -INFINITY
        if i >= 0:
            self.new_ending[1, j] = log_add(self.new_ending[1, j], self.grown(i, label, log_p, bonus))
            self.taken[i * self.classes + label] = self.time
        self.new_ending[2, j] = log_add(self.new_ending[0, j], self.new_ending[1, j])

    cdef void offer(self, double score, int64_t code, int64_t *kept) noexcept nogil:
        """Put a candidate into the heap of the best ones, whose worst is first."""
        cdef candidate one
        cdef int64_t i, k
        one.score, one.code = score, code
        if score == -INFINITY:
            return
        if kept[0] < self.width:
            i = kept[0]
            kept[0] += 1
            while i and worse(&one, &self.heap[(i - 1) // 2]):
                self.heap[i] = self.heap[(i - 1) // 2]
                i = (i - 1) // 2
        elif worse(&self.heap[0], &one):
            i = 0
            while 2 * i + 1 < self.width:
                k = 2 * i + 1
                if k + 1 < self.width and worse(&self.heap[k + 1], &self.heap[k]):
                    k += 1
                if not worse(&self.heap[k], &one):
                    break
                self.heap[i] = self.heap[k]
                i = k
        else:
            return
        self.heap[i] = one

    cdef void keep(self, int64_t kept) noexcept nogil:
        """The candidates become the beam."""
        cdef int64_t i, k, place, label
        for i in range(self.count):
            self.place[self.node[i]] = -1
        for k in range(kept):
            place, label = self.heap[k].code // (self.classes + 1), self.heap[k].code % (self.classes + 1) - 1
            self.new_node[k] = self.node[place] if label < 0 else self.grow(self.node[place], label)
            # the rows of `ending` are read no more, so they take the new beam
            self.ending[0, k] = self.new_ending[0, place] if label < 0 else -INFINITY
            self.ending[1, k] = self.new_ending[1, place] if label < 0 else self.heap[k].score
            self.ending[2, k] = self.heap[k].score
        for k in range(kept):
            self.node[k] = self.new_node[k]
            self.place[self.node[k]] = k
        self.count = kept

    cdef int64_t grow(self, int64_t node, int64_t label) noexcept nogil:
        """The child of a node by a label, made if it is new."""
        cdef int64_t child = self.child[node]
        while child >= 0:
            if self.label[child] == label:
                return child
            child = self.sibling[child]
        child = self.nodes
        self.nodes += 1
        self.parent[child], self.label[child] = node, label
        self.sibling[child], self.child[node] = self.child[node], child
        return child


def edit_distance(const int64_t[::1] a, const int64_t[::1] b):
    """Least number of insertions, deletions and substitutions that turn a into b (Wagner and Fischer 1974).

    Examples
    --------
    >>> import numpy as np
    >>> edit_distance(np.array([1, 2, 3]), np.array([1, 3, 4]))
    2
    """
    row = np.arange(len(b) + 1, dtype=np.int64)
    cdef int64_t[::1] cost = row
    cdef int64_t i, j, corner, above
    with nogil:
        for i in range(a.shape[0]):
            corner, cost[0] = cost[0], i + 1
            for j in range(b.shape[0]):
                above = cost[j + 1]
                cost[j + 1] = min(min(above, cost[j]) + 1, corner + (a[i] != b[j]))
                corner = above
    return int(cost[b.shape[0]])
