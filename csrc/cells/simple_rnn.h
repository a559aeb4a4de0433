/* SimpleRNN (Elman 1990, Finding structure in time; ONNX RNN). x = W x_t + b, h = R y_{t-1}.
 * y = f(x + h)
 * Tape: slot 0 what f's derivative needs, then dL/d(x + h). */
#define simple_rnn_SHAPE .gates = 1, .slots = 1, .states = 1, .phases = 1

INLINE void V(simple_rnn_forward)(int f, int unused, const vec *x, const vec *h, const vec *s, vec *out, vec *saved) {
    (void)unused, (void)s;
    vec a = x[0] + h[0];
    out[0] = V(activate)(f, a);
    saved[0] = V(keep)(f, a, out[0]);
}

INLINE void V(simple_rnn_backward)(int f, int unused, vec product, const vec *saved, vec h, vec *ds, vec *dg) {
    (void)unused, (void)h;
    dg[0] = (ds[0] + product) * V(derivative)(f, saved[0]);
    ds[0] = vset(0);
}
