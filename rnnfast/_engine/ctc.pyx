"""Connectionist temporal classification: the loss of a batch of label sequences and its gradient, by the forward-backward algorithm in log space.

Equations: A. Graves, S. Fernandez, F. Gomez, J. Schmidhuber, Connectionist temporal classification, ICML 2006. All sums are float64; a sequence is computed by
one thread, so no result depends on how many there are.
"""
from libc.math cimport INFINITY, NAN, exp, isnan, log, log1p
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from rnnfast._engine.buffers cimport Buffer, Op, Rows, length_of, operand, rows_map
from rnnfast._engine.cpu cimport kernels_of
from rnnfast._engine.kernels cimport rnnf_barrier, rnnf_kernels, rnnf_team

cdef enum:
    GAP = 8  # values before a row of states and the unit of its length: a whole vector

cdef double NEVER = -1e30  # log of probability zero; finite, so that the difference of two of them is no NaN

ctypedef struct task:
    const rnnf_kernels *k       # of the model's type
    const rnnf_kernels *wide    # of float64
    const rows_map *rows
    operand *x
    operand *dx
    operand *labels             # int64 [batch, its stride], the caller's order
    operand *weight             # float64, one a sequence
    operand *work               # float64, one a sequence
    operand *result             # float64
    operand *scratch            # float64, its stride a thread
    int64_t classes, blank, padding
    int from_logits, zero_infinity, per_label
    double epsilon

# The scratch of one thread, cut into rows of `states` values (after a gap) or of `classes` values, and one sequence's sizes.
ctypedef struct sequence:
    const int64_t *labels
    int64_t r, count, time, states, padded
    double *alpha               # [time + 1, or 2 without a gradient] rows, `stride` apart; row 0 stands before the first step
    int64_t stride, alpha_rows
    double *beta[2]
    double *emit
    double *emit_back
    double *skip
    double *skip_back
    double *gamma
    double *norm                # [time]: log of the sum of exp, or the sum
    double *row                 # [classes padded]
    double *posterior           # [classes]: expected number of states of a label in a step


cdef inline int64_t whole(int64_t n) noexcept nogil:
    return (n + GAP - 1) // GAP * GAP


def ctc_scratch_size(int64_t time, int64_t labels, int64_t classes, bint gradient):
    """Values of float64 that one thread needs for sequences of `time` steps and up to `labels` labels."""
    states = GAP + whole(2 * min(time, labels) + 1)
    return states * ((time + 1 if gradient else 2) + 7) + whole(time) + 2 * whole(classes)


cdef void lay_out(const task *a, sequence *q, double *p, int64_t columns) noexcept nogil:
    """Cut the scratch; all of it that stands outside the states is set once a sequence, to NEVER."""
    cdef int64_t time = a.rows.time, i
    q.stride = GAP + whole(2 * min(time, columns) + 1)
    q.alpha_rows = time + 1 if a.dx != NULL else 2
    q.alpha = p + GAP
    p += q.alpha_rows * q.stride
    q.beta[0], q.beta[1], q.emit, q.emit_back = p + GAP, p + q.stride + GAP, p + 2 * q.stride + GAP, p + 3 * q.stride + GAP
    q.skip, q.skip_back, q.gamma = p + 4 * q.stride + GAP, p + 5 * q.stride + GAP, p + 6 * q.stride + GAP
    q.norm = p + 7 * q.stride
    q.row = q.norm + whole(time)
    q.posterior = q.row + whole(a.classes)
    for i in range(7 * q.stride):
        p[i] = NEVER
    for i in range(q.alpha_rows):
        q.alpha[i * q.stride - 2] = q.alpha[i * q.stride - 1] = NEVER


cdef inline int64_t label_of(const task *a, const sequence *q, int64_t s) noexcept nogil:
    return q.labels[s // 2] if s & 1 else a.blank


cdef inline double *alpha_at(const sequence *q, int64_t step) noexcept nogil:
    return q.alpha + (step if q.alpha_rows > 2 else step & 1) * q.stride


cdef void start(const task *a, sequence *q) noexcept nogil:
    """The jumps that labels allow (never between equal ones), and what stands before the first and after the last step: state 0, for sure."""
    cdef int64_t i, s
    for i in range(1, q.count):
        if q.labels[i] != q.labels[i - 1]:
            s = 2 * i + 1
            q.skip[s] = q.skip_back[q.states + 1 - s] = 0
    for s in range(q.padded):
        q.alpha[s] = NEVER
    q.alpha[0] = q.beta[q.time & 1][0] = 0


cdef inline char *x_row(const task *a, const operand *x, const sequence *q, int64_t t) noexcept nogil:
    return x.data + (a.rows.offset[t] + q.r) * x.stride * a.k.itemsize


cdef inline double log_probability(const task *a, const sequence *q, int64_t label, int64_t t) noexcept nogil:
    if a.from_logits:
        return max(NEVER, q.row[label] - q.norm[t])
    return log(min(1 - a.epsilon, max(a.epsilon, q.row[label] / q.norm[t])))


cdef void emissions(const task *a, sequence *q, int64_t t) noexcept nogil:
    """row = step t of x; emit = log probabilities of the states' labels in it."""
    cdef int64_t s
    cdef double blank
    a.k.widen(q.row, x_row(a, a.x, q, t), a.classes)
    for s in range(a.classes, whole(a.classes)):
        q.row[s] = -INFINITY
    if a.from_logits:
        q.norm[t] = a.wide.log_sum_exp(q.row, whole(a.classes))
    else:
        q.norm[t] = 0
        for s in range(a.classes):
            q.norm[t] += q.row[s]
        if q.norm[t] == 0:
            q.norm[t] = NAN
    blank = log_probability(a, q, a.blank, t)
    for s in range(q.count):
        q.emit[2 * s] = blank
        q.emit[2 * s + 1] = log_probability(a, q, q.labels[s], t)
    q.emit[q.states - 1] = blank


cdef double forward(const task *a, sequence *q) noexcept nogil:
    """log p(labels | x): far below 0 where no path gives them, NaN where x is NaN."""
    cdef int64_t t
    cdef double *last_two
    for t in range(q.time):
        emissions(a, q, t)
        if isnan(q.norm[t]):
            return NAN
        a.wide.ctc_step(alpha_at(q, t + 1), alpha_at(q, t), q.emit, q.skip, q.padded)
    last_two = alpha_at(q, q.time) + q.states - 2
    return max(last_two[0], last_two[1]) + log1p(exp(-abs(last_two[1] - last_two[0])))


cdef void posterior_to_gradient(const task *a, const sequence *q, int64_t t) noexcept nogil:
    """row = gradient by row of -sum over labels of posterior * log_probability."""
    cdef int64_t i
    cdef double raw, inside = 0
    if a.from_logits:
        a.wide.exp_below(q.row, q.row, q.norm[t], whole(a.classes))
        for i in range(a.classes):
            q.row[i] -= q.posterior[i]
        return
    for i in range(a.classes):
        raw = q.row[i] / q.norm[t]
        q.posterior[i] = q.posterior[i] if a.epsilon <= raw <= 1 - a.epsilon else 0
        inside += q.posterior[i]
    for i in range(a.classes):
        q.row[i] = inside / q.norm[t] - (q.posterior[i] / q.row[i] if q.posterior[i] != 0 else 0)


cdef void backward(const task *a, sequence *q, double total, double factor) noexcept nogil:
    """dx of every step, times factor. beta runs over the reversed sequence, so that both directions are one recursion."""
    cdef int64_t t, s
    cdef double *beta
    cdef double *alpha
    for t in range(q.time - 1, -1, -1):
        emissions(a, q, t)
        for s in range(q.states):
            q.emit_back[q.states - 1 - s] = q.emit[s]
        beta, alpha = q.beta[t & 1], alpha_at(q, t + 1)
        a.wide.ctc_step(beta, q.beta[t + 1 & 1], q.emit_back, q.skip_back, q.padded)
        for s in range(q.states):
            q.gamma[s] = alpha[s] + beta[q.states - 1 - s] - q.emit[s]
        a.wide.exp_below(q.gamma, q.gamma, total, q.padded)
        memset(q.posterior, 0, a.classes * sizeof(double))
        for s in range(q.states):
            q.posterior[label_of(a, q, s)] += q.gamma[s]
        posterior_to_gradient(a, q, t)
        a.k.narrow(x_row(a, a.dx, q, t), q.row, factor, a.classes)


cdef void fill(const task *a, const sequence *q, double value) noexcept nogil:
    """The same gradient in all steps of a sequence."""
    cdef int64_t t, i
    for i in range(a.classes):
        q.row[i] = value
    for t in range(q.time if a.dx != NULL else 0):
        a.k.narrow(x_row(a, a.dx, q, t), q.row, 1, a.classes)


cdef double one_sequence(const task *a, sequence *q, double weight) noexcept nogil:
    """weight * loss, and dx."""
    cdef double total
    cdef double factor = weight / max(1, q.count) if a.per_label else weight
    if q.count <= q.time:
        start(a, q)
        total = forward(a, q)
    else:
        total = NEVER
    if isnan(total) or total < NEVER / 2:
        fill(a, q, NAN if isnan(total) else 0)
        return NAN if isnan(total) else 0 if a.zero_infinity else INFINITY * factor
    if a.dx != NULL:
        backward(a, q, total, factor)
    return -total * factor


cdef void ctc(void *args, rnnf_team *team, int member) noexcept nogil:
    """result[0] = sum over sequences of weight * loss(x, labels); dx = its gradient, 0 in pads. Every thread takes each so-manieth sequence, long ones first."""
    cdef task *a = <task *>args
    cdef sequence q
    cdef int64_t i, r, b, columns = a.labels.stride
    cdef double *values = <double *>a.work.data
    cdef double total = 0
    for i in range((a.rows.batch - member + team.size - 1) // team.size):
        r = member + i * team.size
        b, q.r, q.time, q.count = a.rows.order[r], r, length_of(a.rows, r), 0
        q.labels = <int64_t *>a.labels.data + b * columns
        while q.count < columns and q.labels[q.count] != a.padding:
            q.count += 1
        q.states = 2 * q.count + 1
        q.padded = whole(q.states)
        lay_out(a, &q, <double *>a.scratch.data + member * a.scratch.stride, columns)
        values[b] = 0
        if (<double *>a.weight.data)[r] != 0:
            values[b] = one_sequence(a, &q, (<double *>a.weight.data)[r])
        else:
            fill(a, &q, 0)
    rnnf_barrier(team, member)
    if member == 0:
        for b in range(a.rows.batch):
            total += values[b]
        (<double *>a.result.data)[0] = total
        if a.dx != NULL and a.rows.pads:
            memset(a.dx.data + a.rows.count * a.dx.stride * a.k.itemsize, 0, a.rows.pads * a.classes * a.k.itemsize)


cdef class CTCOp(Op):
    """The loss op.

    Parameters
    ----------
    dtype : str
    rows : Rows
    buffers : dict of str to Buffer
        x, dx (or None), labels (int64), weight, work, result, scratch (float64), with their strides.
    classes, blank, padding : int
        Labels of a sequence end before the first `padding`.
    from_logits, zero_infinity, per_label : bool
    epsilon : float
        Probabilities are clipped to [epsilon, 1 - epsilon].
    """

    def __init__(self, str dtype, Rows rows, dict buffers, int64_t classes, int64_t blank, int64_t padding, bint from_logits, bint zero_infinity, bint per_label,
                 double epsilon):
        cdef task *a = <task *>calloc(1, sizeof(task))
        if a == NULL:
            raise MemoryError()
        self.args, self.work, self.record = a, ctc, (rows, buffers)
        a.k, a.wide, a.rows = kernels_of(dtype), kernels_of("float64"), &rows.map
        a.x, a.labels, a.weight = view(buffers["x"]), view(buffers["labels"]), view(buffers["weight"])
        a.work, a.result, a.scratch = view(buffers["work"]), view(buffers["result"]), view(buffers["scratch"])
        a.dx = view(buffers["dx"]) if buffers["dx"] is not None else NULL
        a.classes, a.blank, a.padding, a.epsilon = classes, blank, padding, epsilon
        a.from_logits, a.zero_infinity, a.per_label = from_logits, zero_infinity, per_label

    def __dealloc__(self):
        free(self.args)


cdef operand *view(Buffer buffer) except NULL:
    return &buffer.view
