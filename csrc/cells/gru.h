/* GRU, reset gate after the recurrent product (Cho et al. 2014, arXiv 1406.1078v1; Keras reset_after=True, cuDNN). x = W x_t + b, h = R h_{t-1} + c.
 * z = s(x_z + h_z)   r = s(x_r + h_r)   n = f(x_n + r h_n)   h' = z h + (1 - z) n
 * Gate order of x: n, z, r; of h: z, r, n. So on the tape's slots n, z, r, h_n the gradients of either are three neighbours. */
#define gru_SHAPE .gates = 3, .slots = 4, .states = 1, .phases = 1

INLINE void V(gru_gates)(int act, int gate, const vec *x, const vec *h, const vec *s, vec *mid, vec *saved) {
    (void)act, (void)s;
    vec az = x[1] + h[0], ar = x[2] + h[1], z = V(activate)(gate, az), r = V(activate)(gate, ar);
    mid[0] = z;
    mid[1] = vfma(r, h[2], x[0]);
    saved[1] = V(keep)(gate, az, z);
    saved[2] = V(keep)(gate, ar, r);
    saved[3] = h[2];
}

INLINE void V(gru_output)(int act, const vec *mid, const vec *s, vec *out, vec *saved) {
    vec z = mid[0], an = mid[1], n = V(activate)(act, an);
    out[0] = vfma(z, s[0] - n, n);
    saved[0] = V(keep)(act, an, n);
}

INLINE void V(gru_backward)(int act, int gate, vec product, const vec *saved, vec h, vec *ds, vec *dg) {
    vec n = V(kept_output)(act, saved[0]), z = V(kept_output)(gate, saved[1]), r = V(kept_output)(gate, saved[2]);
    vec dh = ds[0] + product;
    dg[0] = dh * (1 - z) * V(derivative)(act, saved[0]);
    dg[1] = dh * (h - n) * V(derivative)(gate, saved[1]);
    dg[2] = dg[0] * saved[3] * V(derivative)(gate, saved[2]);
    dg[3] = dg[0] * r;
    ds[0] = dh * z;
}
