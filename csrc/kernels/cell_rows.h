/* The equations of csrc/cells on one row of plain gates, [gate][unit], for layers that do something between a step's product and its cell, or after it:
 * normalise whole rows, project the output. */

INLINE vec V(row_load)(const void *row, int64_t u, int64_t units) { return row ? vload_n((const real *)row + u, units - u) : vset(0); }
INLINE void V(row_store)(void *row, int64_t u, int64_t units, vec x) {
    if (row) vstore_n((real *)row + u, x, units - u);
}
/* Gate v of a row of gates. */
#define GATE(row, v) ((row) ? (real *)(row) + (v) * k->units : 0)

INLINE void V(row_gates)(const rnnf_cell_row *k, const rnnf_row_cell *c, V(gates_fn) gates, int act, int gate) {
    for (int64_t u = 0; u < k->units; u += LANES) {
        vec in[2][4], s[2], mid[2], saved[5];
        for (int side = 0; side < 2; side++)
            for (int i = 0; i < c->gates; i++) in[side][i] = V(row_load)(GATE(k->gates[side], c->order[side][i]), u, k->units);
        for (int i = 0; i < 2; i++) s[i] = V(row_load)(k->state[i], u, k->units);
        gates(act, gate, in[0], in[1], s, mid, saved);
        for (int i = 0; i < 2; i++) V(row_store)(GATE(k->mid, i), u, k->units, mid[i]);
        for (int i = c->late; i < c->slots; i++) V(row_store)(GATE(k->saved, i), u, k->units, saved[i]);
    }
}

INLINE void V(row_output)(const rnnf_cell_row *k, const rnnf_row_cell *c, V(output_fn) output, int act) {
    for (int64_t u = 0; u < k->units; u += LANES) {
        vec s[1] = {V(row_load)(k->state[0], u, k->units)}, mid[2], out[2], saved[5];
        for (int i = 0; i < 2; i++) mid[i] = V(row_load)(GATE(k->mid, i), u, k->units);
        output(act, mid, s, out, saved);
        for (int i = 0; i < c->states; i++) V(row_store)(k->out[i], u, k->units, out[i]);
        for (int i = 0; i < c->late; i++) V(row_store)(GATE(k->saved, i), u, k->units, saved[i]);
    }
}

INLINE void V(row_backward)(const rnnf_cell_row *k, const rnnf_row_cell *c, V(backward_fn) backward, int act, int gate) {
    for (int64_t u = 0; u < k->units; u += LANES) {
        vec h = V(row_load)(k->state[0], u, k->units), saved[5], ds[2], dg[5];
        for (int i = 0; i < c->slots; i++) saved[i] = V(row_load)(GATE(k->saved, i), u, k->units);
        for (int i = 0; i < 2; i++) ds[i] = V(row_load)(k->d[i], u, k->units);
        backward(act, gate, vset(0), saved, h, ds, dg);
        for (int i = 0; i < c->states; i++) V(row_store)(k->d[i], u, k->units, ds[i]);
        for (int i = 0; i < c->gates; i++) {
            V(row_store)(GATE(k->dgates[0], c->order[0][i]), u, k->units, dg[i]);
            V(row_store)(GATE(k->dgates[1], c->order[1][i]), u, k->units, dg[c->first + i]);
        }
    }
}

/* Backward of an LSTM's h = o f(m) where m is not c itself: from m in mid[1] and d[0] = dh, the gradients of o's gate input to mid[0] and of m to mid[1]. */
static void V(lstm_row_output_backward)(const rnnf_cell_row *k) {
    for (int64_t u = 0; u < k->units; u += LANES) {
        const vec m = V(row_load)(GATE(k->mid, 1), u, k->units), o = V(row_load)(GATE(k->saved, 3), u, k->units), dh = V(row_load)(k->d[0], u, k->units);
        const vec f = V(activate)(k->act, m);
        V(row_store)(GATE(k->mid, 0), u, k->units, dh * f * V(derivative)(k->recurrent_act, o));
        V(row_store)(GATE(k->mid, 1), u, k->units, dh * V(kept_output)(k->recurrent_act, o) * V(derivative)(k->act, V(keep)(k->act, m, f)));
    }
}

#define ROW_CELL(cell, ...) \
    static const rnnf_row_cell V(cell##_facts) = {__VA_ARGS__}; \
    static void V(cell##_row_gates)(const rnnf_cell_row *k) { \
        if (k->act == ACT_tanh && k->recurrent_act == ACT_sigmoid) V(row_gates)(k, &V(cell##_facts), V(cell##_gates), ACT_tanh, ACT_sigmoid); \
        else V(row_gates)(k, &V(cell##_facts), V(cell##_gates), k->act, k->recurrent_act); \
    } \
    static void V(cell##_row_output)(const rnnf_cell_row *k) { V(row_output)(k, &V(cell##_facts), V(cell##_output), k->act); } \
    static void V(cell##_row_backward)(const rnnf_cell_row *k) { V(row_backward)(k, &V(cell##_facts), V(cell##_backward), k->act, k->recurrent_act); }

#define LSTM_ROWS .name = "lstm", .gates = 4, .slots = 5, .late = 0, .states = 2, .first = 0, .order = {{0, 1, 2, 3}, {0, 1, 2, 3}}
#define GRU_ROWS .name = "gru", .gates = 3, .slots = 4, .late = 1, .states = 1, .first = 1, .order = {{2, 0, 1}, {0, 1, 2}}
ROW_CELL(lstm, LSTM_ROWS)
ROW_CELL(gru, GRU_ROWS)
#undef GATE
