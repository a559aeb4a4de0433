/* LSTM whose gates see the cell state (Gers and Schmidhuber 2000, Recurrent nets that time and count). As lstm, with a weight p of each unit and gate:
 * i = s(x_i + h_i + p_i c)   f = s(x_f + h_f + p_f c)   g = f(x_g + h_g)   c' = f c + i g   o = s(x_o + h_o + p_o c')   h' = o f(c')
 * Tape: i, f, g, o as their derivatives need them, c; then dL/d(gate inputs) and, from 4 on, dL/dp_i, dL/dp_f, dL/dp_o. */
#define peephole_lstm_SHAPE .gates = 4, .slots = 7, .states = 2, .phases = 1, .vectors = 3, .vector_slot = 4

INLINE void V(peephole_lstm_gates)(int act, int gate, const vec *x, const vec *h, const vec *s, vec *mid, vec *saved) {
    const vec *p = s + 2, c = s[1];
    vec ai = vfma(p[0], c, x[0] + h[0]), af = vfma(p[1], c, x[1] + h[1]), ag = x[2] + h[2];
    vec i = V(activate)(gate, ai), f = V(activate)(gate, af), g = V(activate)(act, ag);
    mid[1] = vfma(f, c, i * g);
    vec ao = vfma(p[2], mid[1], x[3] + h[3]);
    mid[0] = V(activate)(gate, ao);
    saved[0] = V(keep)(gate, ai, i);
    saved[1] = V(keep)(gate, af, f);
    saved[2] = V(keep)(act, ag, g);
    saved[3] = V(keep)(gate, ao, mid[0]);
    saved[4] = c;
}

INLINE void V(peephole_lstm_output)(int act, const vec *mid, const vec *s, vec *out, vec *saved) { V(lstm_output)(act, mid, s, out, saved); }

INLINE void V(peephole_lstm_backward)(int act, int gate, vec product, const vec *saved, vec h, vec *ds, vec *dg) {
    (void)h;
    const vec *p = saved + 7, c = saved[4];
    vec i = V(kept_output)(gate, saved[0]), f = V(kept_output)(gate, saved[1]);
    vec g = V(kept_output)(act, saved[2]), o = V(kept_output)(gate, saved[3]);
    vec c_new = vfma(f, c, i * g), fc = V(activate)(act, c_new), dh = ds[0] + product;
    dg[3] = dh * fc * V(derivative)(gate, saved[3]);
    vec dc = vfma(dh * o, V(derivative)(act, V(keep)(act, c_new, fc)), vfma(dg[3], p[2], ds[1]));
    dg[0] = dc * g * V(derivative)(gate, saved[0]);
    dg[1] = dc * c * V(derivative)(gate, saved[1]);
    dg[2] = dc * i * V(derivative)(act, saved[2]);
    dg[4] = dg[0] * c;
    dg[5] = dg[1] * c;
    dg[6] = dg[3] * c_new;
    ds[0] = vset(0);
    ds[1] = vfma(dg[0], p[0], vfma(dg[1], p[1], dc * f));
}
