"""Recurrent layers: the op of a plan, whose loops over time are in `recurrent_forward` and `recurrent_backward`.

A thread owns rows (SPLIT_ROWS: no barrier at all) or unit panels (SPLIT_UNITS: one barrier a step, each core keeps its part of the
recurrent kernel in its own cache). Either way every number is computed by one thread in one order, so results do not depend on the split.
"""
from libc.stdlib cimport calloc, free

from rnnfast._engine.buffers cimport Buffer, Op, operand, Rows
from rnnfast._engine.cpu cimport kernels_of, tiles_of
from rnnfast._engine.kernels cimport CELL_COUNT, rnnf_kernels, WEIGHTS_SAME, WEIGHTS_SPLIT1
from rnnfast._engine.recurrent_backward cimport backward_work
from rnnfast._engine.recurrent_forward cimport forward_work, steps_alone


cdef operand *view(dict buffers, str name) except? NULL:
    cdef Buffer buffer = buffers.get(name)
    return &buffer.view if buffer is not None else NULL


cdef class RecurrentLayer(Op):
    """One direction of a recurrent layer.

    Parameters
    ----------
    dtype : str
    cell : str
        A name of csrc/cells/cells.def.
    rows : Rows
    buffers : dict of str to Buffer
        By the names of the fields of `layer`; what is missing is not computed.
    sizes : dict of str to int
        inputs, units, chunk, within, tape_panel, reverse, act, gate, split, scratch_size, recurrent_bias_rows, turned, states, wide, shown_timed,
        vector_count, kernel_weights, recurrent_weights.
    order : pair of sequences of int
        Gate of the engine -> Keras' gate, of the kernel and of the recurrent kernel's first phase.
    backward : bool
    slots : Rows, optional
        Whose order says which row of the states each row goes on from and leaves.
    """

    def __init__(self, str dtype, str cell, Rows rows, dict buffers, dict sizes, order, bint backward, Rows slots=None):
        cdef layer *a = <layer *>calloc(1, sizeof(layer))
        cdef int i, j
        if a == NULL:
            raise MemoryError()
        self.args = a
        self.record = (rows, buffers, slots)
        a.slots = &slots.map if slots is not None else NULL
        self.work = backward_work if backward else forward_work
        if not backward and not sizes["reverse"]:
            self.steps = steps_alone
        a.k = kernels_of(dtype)
        for i in range(CELL_COUNT):
            if a.k.cell[i].name.decode() == cell:
                a.cell = &a.k.cell[i]
        a.rows = &rows.map
        a.inputs, a.units, a.chunk, a.tape_panel = sizes["inputs"], sizes["units"], sizes["chunk"], sizes.get("tape_panel", 0)
        a.gap, a.gaps = sizes["gap"], sizes["gaps"]
        a.panels = (a.units + a.k.lanes - 1) // a.k.lanes
        a.padded = a.panels * a.k.lanes
        a.reverse, a.act, a.gate, a.split, a.within = sizes["reverse"], sizes["act"], sizes["gate"], sizes["split"], sizes["within"]
        a.scratch_size, a.recurrent_bias_rows, a.turned = sizes.get("scratch_size", 0), sizes.get("recurrent_bias_rows", 0), sizes["turned"]
        for i in range(2):
            for j in range(len(order[i])):
                a.order[i][j] = order[i][j]
        a.zero_pads, a.mask_count = sizes["zero_pads"], sizes.get("mask_count", 0)
        a.states, a.wide, a.shown_timed, a.vector_count = sizes["states"], sizes["wide"], sizes["shown_timed"], sizes["vector_count"]
        a.kernel_weights, a.recurrent_weights = sizes["kernel_weights"], sizes["recurrent_weights"]
        self._take(a, buffers)
        a.tiles = tiles_of() if max(a.kernel_weights, a.recurrent_weights) >= WEIGHTS_SPLIT1 else NULL
        stored = a.tiles == NULL and a.cell.gates > 1 and a.cell.phases == 1  # whether a run would read stored weights
        a.runs = (a.cell.run != NULL and (a.recurrent_weights == WEIGHTS_SAME or stored) and not (a.reverse and a.tape != NULL)
                  and a.masks == NULL and a.shown == NULL and a.keep[0] == NULL and a.keep[1] == NULL)

    cdef _take(self, layer *a, dict buffers):
        cdef int s
        a.x, a.y, a.last, a.x_rows = view(buffers, "x"), view(buffers, "y"), view(buffers, "last"), view(buffers, "x_rows")
        a.kernel, a.bias, a.recurrent_bias = view(buffers, "kernel"), view(buffers, "bias"), view(buffers, "recurrent_bias")
        a.x_gates, a.h, a.memory, a.reset = view(buffers, "x_gates"), view(buffers, "h"), view(buffers, "memory"), view(buffers, "reset")
        a.tape, a.h_tape, a.reset_tape = view(buffers, "tape"), view(buffers, "h_tape"), view(buffers, "reset_tape")
        a.dy, a.dlast, a.dx, a.kernel_t = view(buffers, "dy"), view(buffers, "dlast"), view(buffers, "dx"), view(buffers, "kernel_t")
        a.dkernel, a.drecurrent, a.dbias = view(buffers, "dkernel"), view(buffers, "drecurrent"), view(buffers, "dbias")
        a.dh = view(buffers, "dh")
        a.carry, a.scratch, a.product, a.parts = view(buffers, "carry"), view(buffers, "scratch"), view(buffers, "product"), view(buffers, "parts")
        a.vectors, a.dvectors, a.shown, a.dshown = view(buffers, "vectors"), view(buffers, "dvectors"), view(buffers, "shown"), view(buffers, "dshown")
        a.masks, a.masked, a.masked_tape = view(buffers, "masks"), view(buffers, "masked"), view(buffers, "masked_tape")
        for s in range(4):
            a.gate_recurrent_t[s] = view(buffers, f"gate_recurrent_t{s}")
        for s in range(STATES_MOST):
            a.state_recurrent_t[s] = view(buffers, f"state_recurrent_t{s}")
            a.state_in[s], a.state_out[s] = view(buffers, f"state_in{s}"), view(buffers, f"state_out{s}")
            a.dstate_in[s], a.dstate_out[s] = view(buffers, f"dstate_in{s}"), view(buffers, f"dstate_out{s}")
        for s in range(2):
            a.keep[s] = view(buffers, f"keep{s}")
            a.recurrent[s], a.recurrent_t[s] = view(buffers, f"recurrent{s}"), view(buffers, f"recurrent_t{s}")

    @property
    def split(self):
        """What threads share: SPLIT_NONE, SPLIT_ROWS or SPLIT_UNITS."""
        return (<layer *>self.args).split

    @split.setter
    def split(self, int value):
        (<layer *>self.args).split = value

    def __dealloc__(self):
        free(self.args)


def cell_facts(str dtype, str cell):
    """gates, slots, states, (product_gates, slot) of each phase and the number of weights of each unit."""
    cdef const rnnf_kernels *k = kernels_of(dtype)
    cdef int i, p
    for i in range(CELL_COUNT):
        if k.cell[i].name.decode() == cell:
            phases = [(k.cell[i].phase[p].product_gates, k.cell[i].phase[p].slot) for p in range(k.cell[i].phases)]
            return k.cell[i].gates, k.cell[i].slots, k.cell[i].states, phases, k.cell[i].vectors
    raise KeyError(cell)
