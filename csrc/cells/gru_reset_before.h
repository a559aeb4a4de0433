/* GRU, reset gate before the recurrent product (Cho et al. 2014, arXiv 1406.1078v3; Keras reset_after=False). x = W x_t + b.
 * z = s(x_z + R_z h)   r = s(x_r + R_r h)   n = f(x_n + R_n (r h))   h' = z h + (1 - z) n
 * Two phases, since R_n waits for r: `gates` leaves r h in out and z in memory; `candidate` has r h as its operand. Tape: n, z, r. */
#define gru_reset_before_SHAPE .gates = 3, .slots = 3, .states = 1, .phases = 2

INLINE void V(gru_reset_before_gates_forward)(int act, int gate, const vec *x, const vec *h, const vec *s, vec *out, vec *saved) {
    (void)act;
    vec az = x[1] + h[0], ar = x[2] + h[1], r = V(activate)(gate, ar);
    out[1] = V(activate)(gate, az);
    out[0] = r * s[0];
    saved[1] = V(keep)(gate, az, out[1]);
    saved[2] = V(keep)(gate, ar, r);
}

INLINE void V(gru_reset_before_candidate_forward)(int act, int gate, const vec *x, const vec *h, const vec *s, vec *out, vec *saved) {
    (void)gate;
    vec an = x[0] + h[0], n = V(activate)(act, an);
    out[0] = vfma(s[1], s[0] - n, n);
    saved[0] = V(keep)(act, an, n);
}

INLINE void V(gru_reset_before_candidate_backward)(int act, int gate, vec product, const vec *saved, vec h, vec *ds, vec *dg) {
    vec n = V(kept_output)(act, saved[0]), z = V(kept_output)(gate, saved[1]), dh = ds[0] + product;
    dg[0] = dh * (1 - z) * V(derivative)(act, saved[0]);
    dg[1] = dh * (h - n) * V(derivative)(gate, saved[1]);
    dg[2] = saved[2];
    ds[0] = dh * z;
}

INLINE void V(gru_reset_before_gates_backward)(int act, int gate, vec product, const vec *saved, vec h, vec *ds, vec *dg) {
    (void)act;
    dg[0] = saved[0];
    dg[1] = saved[1];
    dg[2] = product * h * V(derivative)(gate, saved[2]);
    ds[0] = vfma(product, V(kept_output)(gate, saved[2]), ds[0]);
}
