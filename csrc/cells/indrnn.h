/* Independently recurrent network (Li et al. 2018, arXiv 1803.04831). x = W x_t + b; each unit has one recurrent weight u.
 * h' = f(x + u h)
 * Tape: what f's derivative needs, then dL/d(x + u h) and, at 1, dL/du. */
#define indrnn_SHAPE .gates = 1, .slots = 2, .states = 1, .phases = 1, .vectors = 1, .vector_slot = 1

INLINE void V(indrnn_gates)(int f, int unused, const vec *x, const vec *h, const vec *s, vec *mid, vec *saved) {
    (void)f, (void)unused, (void)h, (void)saved;
    mid[0] = vfma(s[2], s[0], x[0]);
}

INLINE void V(indrnn_output)(int f, const vec *mid, const vec *s, vec *out, vec *saved) {
    (void)s;
    out[0] = V(activate)(f, mid[0]);
    saved[0] = V(keep)(f, mid[0], out[0]);
}

INLINE void V(indrnn_backward)(int f, int unused, vec product, const vec *saved, vec h, vec *ds, vec *dg) {
    (void)unused;
    vec u = saved[2];
    dg[0] = (ds[0] + product) * V(derivative)(f, saved[0]);
    dg[1] = dg[0] * h;
    ds[0] = dg[0] * u;
}
