/* minGRU (Feng et al. 2024, Were RNNs all we needed?, arXiv 2410.01201): gates of the input alone. x = W x_t + b.
 * z = s(x_z)   n = f(x_n)   h' = (1 - z) h + z n
 * Gate order n, z; tape: the same. */
#define mingru_SHAPE .gates = 2, .slots = 2, .states = 1, .phases = 1

INLINE void V(mingru_gates)(int act, int gate, const vec *x, const vec *h, const vec *s, vec *mid, vec *saved) {
    (void)act, (void)h, (void)s;
    vec z = V(activate)(gate, x[1]);
    mid[0] = z;
    mid[1] = x[0];
    saved[1] = V(keep)(gate, x[1], z);
}

INLINE void V(mingru_output)(int act, const vec *mid, const vec *s, vec *out, vec *saved) {
    vec z = mid[0], an = mid[1], n = V(activate)(act, an);
    out[0] = vfma(z, n - s[0], s[0]);
    saved[0] = V(keep)(act, an, n);
}

INLINE void V(mingru_backward)(int act, int gate, vec product, const vec *saved, vec h, vec *ds, vec *dg) {
    vec n = V(kept_output)(act, saved[0]), z = V(kept_output)(gate, saved[1]), dh = ds[0] + product;
    dg[0] = dh * z * V(derivative)(act, saved[0]);
    dg[1] = dh * (n - h) * V(derivative)(gate, saved[1]);
    ds[0] = dh * (1 - z);
}
