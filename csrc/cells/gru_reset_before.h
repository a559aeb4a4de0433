/* GRU, reset gate before the recurrent product (Cho et al. 2014, arXiv 1406.1078v3; Keras reset_after=False). x = W x_t + b.
 * z = s(x_z + R_z h)   r = s(x_r + R_r h)   n = f(x_n + R_n (r h))   h' = z h + (1 - z) n
 * Two phases, since R_n waits for r: `gates` leaves r h in out and z in memory; `candidate` has r h as its operand. Tape: n, z, r. */
#define gru_reset_before_SHAPE .gates = 3, .slots = 3, .states = 1, .phases = 2

INLINE void V(gru_reset_before_gates_gates)(int act, int gate, const vec *x, const vec *h, const vec *s, vec *mid, vec *saved) {
    (void)act;
    vec az = x[1] + h[0], ar = x[2] + h[1], r = V(activate)(gate, ar);
    mid[0] = r * s[0];
    mid[1] = V(activate)(gate, az);
    saved[1] = V(keep)(gate, az, mid[1]);
    saved[2] = V(keep)(gate, ar, r);
}

INLINE void V(gru_reset_before_gates_output)(int act, const vec *mid, const vec *s, vec *out, vec *saved) {
    (void)act, (void)s, (void)saved;
    out[0] = mid[0];
    out[1] = mid[1];
}

INLINE void V(gru_reset_before_candidate_gates)(int act, int gate, const vec *x, const vec *h, const vec *s, vec *mid, vec *saved) {
    (void)act, (void)gate, (void)saved;
    mid[0] = s[1];
    mid[1] = x[0] + h[0];
}

INLINE void V(gru_reset_before_candidate_output)(int act, const vec *mid, const vec *s, vec *out, vec *saved) {
    vec z = mid[0], an = mid[1], n = V(activate)(act, an);
    out[0] = vfma(z, s[0] - n, n);
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
