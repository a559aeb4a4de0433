"""Row maps (which time steps of which sequences exist), buffers, and the base of every op."""
import numpy as np

from libc.string cimport memcpy


cdef inline int64_t steps_of(const rows_map *m, const unsigned char *valid, const int64_t *lengths, int64_t b) noexcept nogil:
    """Valid steps of the caller's row b."""
    cdef int64_t t, count = 0
    if lengths != NULL:
        return lengths[b]
    for t in range(m.time):
        count += valid[b * m.time + t] != 0
    return count


cdef class Rows:
    """Which steps of a batch exist, and where each is packed.

    Parameters
    ----------
    batch, time : int
        Extents of the caller's array [batch, time, ...].
    """

    def __init__(self, int64_t batch, int64_t time):
        self.map.batch, self.map.time = batch, time
        steps = (<object>batch) * (<object>time)  # which an int64 may not hold
        if steps > 1 << 56:
            raise MemoryError(f"{batch} rows of {time} steps do not fit into memory.")
        self.tables = np.zeros(3 * (<object>time + 1) + 3 * batch + 3 * steps + 1, np.int64)
        cdef int64_t *table = &self.tables[0]
        self.map.active = table
        self.map.offset = table + time + 1
        self.map.order = table + 2 * (time + 1)
        self.map.source = self.map.order + batch
        self.map.shown = self.map.source + batch * time
        self.map.cut = self.map.shown + batch * time
        self.capacity, self.steps_made = batch * time + batch, time
        self.hold = True
        self.set_dense()

    @property
    def root(self):
        """The map of an input, from which this one derives."""
        return self if self.source_of is None else self.source_of.root

    def follow(self, Rows parent):
        """Derive from another map: masked as it is."""
        self.source_of, self.masked, self.hold = parent, parent.masked, parent.hold

    @property
    def batch(self):
        return self.map.batch

    @property
    def time(self):
        return self.map.time

    @property
    def count(self):
        """Valid (row, step) pairs."""
        return self.map.count

    @property
    def pads(self):
        return self.map.pads

    @property
    def steps(self):
        """First packed row and number of rows of each step."""
        return [(self.map.offset[t], self.map.active[t]) for t in range(self.map.time)]

    @property
    def order(self):
        """Sorted row -> row of the caller."""
        cdef int64_t first = self.map.order - &self.tables[0]
        return np.asarray(self.tables)[first : first + self.map.batch]

    @property
    def source(self):
        """Packed row -> caller's row * time + step."""
        cdef int64_t first = self.map.source - &self.tables[0]
        return np.asarray(self.tables)[first : first + self.map.count]

    def set_dense(self):
        """Every step of every row exists."""
        cdef rows_map *m = &self.map
        cdef int64_t b, t
        m.dense, m.count, m.pads = 1, m.batch * m.time, 0
        for t in range(m.time):
            m.active[t] = m.batch
            m.offset[t] = t * m.batch
            for b in range(m.batch):
                m.source[t * m.batch + b] = b * m.time + t
                m.shown[b * m.time + t] = t * m.batch + b
        m.active[m.time], m.offset[m.time] = 0, m.count
        for b in range(m.batch):
            m.order[b] = b

    cdef void resize(self, int64_t batch) noexcept:
        """Only so many rows exist, of at most those that the map was made for, and every step of theirs."""
        self.map.batch = batch
        self.set_dense()

    cdef void set_slots(self, const int64_t *slots, int64_t batch) noexcept:
        """So many rows exist, every step of theirs; the caller's row of row r is slots[r]."""
        cdef rows_map *m = &self.map
        cdef int64_t r, t
        if m.batch != batch:
            self.resize(batch)
        m.dense = 0
        for r in range(batch):
            m.order[r] = slots[r]
            for t in range(m.time):
                m.source[t * batch + r] = slots[r] * m.time + t

    def set_time(self, int64_t time):
        """Every row has the first `time` of the steps that this map was made for, and no others."""
        if not 0 <= time <= self.steps_made:
            raise ValueError(f"set_time: must be in [0, {self.steps_made}], got {time}.")
        self.map.time = time
        self.set_dense()

    def set_active(self, const int64_t[::1] active):
        """The caller has sorted and packed the rows itself: so many of them have each step. Falling numbers, no more than this map was made for."""
        cdef rows_map *m = &self.map
        cdef int64_t t, r, before = m.batch
        if active.shape[0] > self.steps_made:
            raise ValueError(f"set_active: must be at most {self.steps_made} steps, got {active.shape[0]}.")
        for t in range(active.shape[0]):
            if not 0 <= active[t] <= before:
                raise ValueError(f"set_active: must be falling numbers from at most {m.batch}, got {active[t]} after {before}.")
            before = active[t]
        m.time, m.pads, m.count = active.shape[0], 0, 0
        m.dense = m.time > 0 and active[m.time - 1] == m.batch
        for t in range(m.time):
            m.active[t], m.offset[t] = active[t], m.count
            for r in range(active[t]):
                m.source[m.count + r] = r * m.time + t
            m.count += active[t]
        m.active[m.time], m.offset[m.time] = 0, m.count

    def set_valid(self, const unsigned char[:, ::1] valid):
        """Steps exist where `valid`. With `hold` a masked step shows the last valid step before it; otherwise, and before the first valid step, the row's pad.

        Parameters
        ----------
        valid : uint8 array of shape (batch, time)
        """
        if valid.shape[0] != self.map.batch or valid.shape[1] != self.map.time:
            raise ValueError(f"set_valid: must be of shape {(self.map.batch, self.map.time)}, got {(valid.shape[0], valid.shape[1])}.")
        if self.map.batch * self.map.time:
            self.lay(&valid[0, 0], NULL)

    cdef void lay(self, const unsigned char *valid, const int64_t *lengths) noexcept nogil:
        """Sort the rows by falling length and pack their steps: those where `valid`, or the first `lengths` of each row where there is no `valid`."""
        cdef rows_map *m = &self.map
        cdef int64_t b, t, r, length, shown
        cdef bint exists
        cdef int64_t *place = m.offset  # for now where the next row of each length goes
        for t in range(m.time + 1):
            place[t] = 0
        for b in range(m.batch):
            place[steps_of(m, valid, lengths, b)] += 1
        m.active[m.time] = 0
        for t in range(m.time - 1, -1, -1):
            m.active[t] = m.active[t + 1] + place[t + 1]
        for t in range(m.time + 1):
            place[t] = m.active[t]
        for b in range(m.batch):
            length = steps_of(m, valid, lengths, b)
            m.order[place[length]] = b
            place[length] += 1
        m.offset[0] = 0
        for t in range(m.time):
            m.offset[t + 1] = m.offset[t] + m.active[t]
        m.count = m.offset[m.time]
        m.dense = m.time > 0 and m.active[m.time - 1] == m.batch
        m.pads = 0 if m.count == m.batch * m.time else m.batch
        for r in range(m.batch):
            b, length, shown = m.order[r], 0, m.count + r
            for t in range(m.time):
                exists = t < lengths[b] if valid == NULL else valid[b * m.time + t] != 0
                if exists:
                    shown = m.offset[length] + r
                    m.source[shown] = b * m.time + t
                    length += 1
                m.shown[b * m.time + t] = shown if exists or self.hold else m.count + r

    def set_resets(self, const unsigned char[:, :] resets):
        """States start from zero before the steps [batch, time] that are not 0; a masked one counts for the valid step after it."""
        cdef rows_map *m = &self.map
        cdef int64_t b, t, row, pending
        if resets.shape[0] != m.batch or resets.shape[1] < m.time:
            raise ValueError(f"set_resets: must be of shape {(m.batch, m.time)}, got {(resets.shape[0], resets.shape[1])}.")
        m.cuts = 0
        for b in range(m.batch):
            pending = 0
            for t in range(m.time):
                pending |= resets[b, t] != 0
                row = m.shown[b * m.time + t]
                if row < m.count and m.source[row] == b * m.time + t:
                    m.cut[row] = pending
                    m.cuts |= <int>pending
                    pending = 0

    def set_batch_of(self, Rows parent):
        """One step a row (time is 1), in the parent's order."""
        cdef int64_t r
        self.set_dense()
        self.map.dense = parent.map.dense
        for r in range(self.map.batch):
            self.map.order[r] = parent.map.order[r]
            self.map.source[r] = parent.map.order[r]
            self.map.shown[parent.map.order[r]] = r

    def set_flip_of(self, Rows parent):
        """The parent's steps in reverse: step t is its step time - 1 - t."""
        cdef rows_map *m = &parent.map
        cdef rows_map *own = &self.map
        cdef int64_t r, i, t, b, row, length, shown
        cdef bint exists
        self.hold = parent.hold
        own.dense, own.count, own.pads, own.cuts = m.dense, m.count, m.pads, m.cuts
        memcpy(own.active, m.active, (m.time + 1) * sizeof(int64_t))
        memcpy(own.offset, m.offset, (m.time + 1) * sizeof(int64_t))
        memcpy(own.order, m.order, m.batch * sizeof(int64_t))
        for r in range(m.batch):
            b, i, length, shown = m.order[r], 0, length_of(m, r), m.count + r
            for t in range(m.time):
                exists = i < length and m.source[m.offset[length - 1 - i] + r] % m.time == m.time - 1 - t
                if exists:
                    shown = row = m.offset[i] + r
                    own.source[row] = b * m.time + t
                    own.cut[row] = i > 0 and m.cuts and m.cut[m.offset[length - i] + r]  # the border is between the same steps
                    i += 1
                own.shown[b * m.time + t] = shown if exists or self.hold else m.count + r

    def set_parts_of(self, Rows parent):
        """Every packed row of the parent, pads too, is so many rows here."""
        cdef int64_t parts = self.map.time // max(<int64_t>1, parent.capacity)
        self.map.count, self.map.pads = parent.map.count * parts, parent.map.pads * parts

    def set_repeat_of(self, Rows parent):
        """Every step exists (time is this map's own), rows in the parent's order."""
        cdef int64_t r, t
        cdef rows_map *m = &self.map
        self.set_dense()
        m.dense = parent.map.dense
        for r in range(m.batch):
            m.order[r] = parent.map.order[r]
            for t in range(m.time):
                m.source[t * m.batch + r] = m.order[r] * m.time + t
                m.shown[m.order[r] * m.time + t] = t * m.batch + r


cdef class Buffer:
    """A run of the arena or a caller's array.

    Parameters
    ----------
    name : str
    size : int
        Elements reserved in the arena; 0 for memory of the caller's.
    stride : int
        Elements from one row to the next.
    """

    def __init__(self, str name, int64_t size, int64_t stride=0):
        self.name, self.size, self.view.stride, self.offset = name, size, stride, -1

    @property
    def stride(self):
        return self.view.stride

    @property
    def step(self):
        return self.view.step

    def point(self, size_t address, int64_t stride, int64_t step=0):
        """Use the memory at `address`; strides in elements, step != 0 only for [batch, time, ...] arrays."""
        if address == 0:
            raise ValueError("an array without memory")
        self.view.data, self.view.stride, self.view.step = <char *>address, stride, step

    def hold(self, array, int64_t stride):
        """Use an array's memory, for as long as there are ops that read or write here."""
        self.point(array.ctypes.data, stride)
        self.held = array


def point_all(list ports, tensors, size_t zeros):
    """Point buffers at tensors of PyTorch's.

    Parameters
    ----------
    ports : list of (Buffer, int)
        Each with the stride of its rows.
    tensors : sequence
        With `data_ptr()`; None for rows of zeros.
    zeros : int
        Address of a row of zeros.
    """
    cdef Buffer buffer
    if len(ports) != len(tensors):
        raise ValueError(f"point_all: must be given {len(ports)} tensors, got {len(tensors)}.")
    for (buffer, stride), tensor in zip(ports, tensors):
        if tensor is None:
            buffer.point(zeros, 0)
        else:
            buffer.point(tensor.data_ptr(), stride)


cdef class Version:
    """Of weights: how often they changed, and when panels were last made of them."""

    def __init__(self):
        self.now, self.packed = 0, -1


cdef class Op:
    """One entry of a program."""
