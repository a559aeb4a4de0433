/* SimpleRNN (Elman 1990, Finding structure in time; ONNX RNN). x = W x_t + b, h = R y_{t-1}.
 * y = f(x + h)
 * Tape: slot 0 what f's derivative needs, then dL/d(x + h). */
#define simple_rnn_SHAPE .gates = 1, .slots = 1, .states = 1, .phases = 1

INLINE void V(simple_rnn_gates)(int f, int unused, const vec *x, const vec *h, const vec *s, vec *mid, vec *saved) {
    (void)f, (void)unused, (void)s, (void)saved;
    mid[0] = x[0] + h[0];
}

INLINE void V(simple_rnn_output)(int f, const vec *mid, const vec *s, vec *out, vec *saved) {
    (void)s;
    out[0] = V(activate)(f, mid[0]);
    saved[0] = V(keep)(f, mid[0], out[0]);
}

INLINE void V(simple_rnn_backward)(int f, int unused, vec product, const vec *saved, vec h, vec *ds, vec *dg) {
    (void)unused, (void)h;
    dg[0] = (ds[0] + product) * V(derivative)(f, saved[0]);
    ds[0] = vset(0);
}
