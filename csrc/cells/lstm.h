/* LSTM (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000). Gate order i, f, g, o. x = W x_t + b, h = R h_{t-1}; f is activation, s is
 * recurrent_activation. i = s(x_i + h_i)   f = s(x_f + h_f)   g = f(x_g + h_g)   o = s(x_o + h_o) c' = f c + i g     h' = o f(c') Tape: i, f, g, o as their
 * derivatives need them, then dL/d(gate inputs); c. */
#define lstm_SHAPE .gates = 4, .slots = 5, .states = 2, .phases = 1

INLINE void V(lstm_gates)(int act, int gate, const vec *x, const vec *h, const vec *s, vec *mid, vec *saved) {
    vec a[4] = {x[0] + h[0], x[1] + h[1], x[2] + h[2], x[3] + h[3]};
    vec i = V(activate)(gate, a[0]), f = V(activate)(gate, a[1]), g = V(activate)(act, a[2]), o = V(activate)(gate, a[3]);
    mid[0] = o;
    mid[1] = vfma(f, s[1], i * g);
    saved[0] = V(keep)(gate, a[0], i);
    saved[1] = V(keep)(gate, a[1], f);
    saved[2] = V(keep)(act, a[2], g);
    saved[3] = V(keep)(gate, a[3], o);
    saved[4] = s[1];
}

INLINE void V(lstm_output)(int act, const vec *mid, const vec *s, vec *out, vec *saved) {
    (void)s, (void)saved;
    out[0] = mid[0] * V(activate)(act, mid[1]);
    out[1] = mid[1];
}

INLINE void V(lstm_backward)(int act, int gate, vec product, const vec *saved, vec h, vec *ds, vec *dg) {
    (void)h;
    vec i = V(kept_output)(gate, saved[0]), f = V(kept_output)(gate, saved[1]);
    vec g = V(kept_output)(act, saved[2]), o = V(kept_output)(gate, saved[3]);
    vec c = vfma(f, saved[4], i * g), fc = V(activate)(act, c), dh = ds[0] + product;
    vec dc = vfma(dh * o, V(derivative)(act, V(keep)(act, c, fc)), ds[1]);
    dg[0] = dc * g * V(derivative)(gate, saved[0]);
    dg[1] = dc * saved[4] * V(derivative)(gate, saved[1]);
    dg[2] = dc * i * V(derivative)(act, saved[2]);
    dg[3] = dh * fc * V(derivative)(gate, saved[3]);
    ds[0] = vset(0);
    ds[1] = dc * f;
}
