/* Statal: a neuron that remembers what it has seen. x = W x_t + b, h = R [s^1 .. s^K]_{t-1}.
 * a = f(x + h)   p = s(sharpness (a - threshold))   g = [a > threshold], or p where the gate's activation is the sigmoid   s'^k = g v + (1 - g) d_k s^k
 * v is a: the last activation seen; or, as statal_seen, 1: whether it was seen, 1 - (1 - s) (1 - g). Each unit's constants: threshold, sharpness, d_1 .. d_K.
 * Backward, dg/da is that of p in either form: a straight-through estimator (Bengio et al. 2013, arXiv 1308.3432; Neftci et al. 2019, arXiv 1901.09948).
 * The output is a, beside the states. `output` and `backward` are run for each k; dL/da of the output is ds[1]. Tape: a as f's derivative needs it, then
 * dL/d(x + h). */
#define statal_SHAPE .gates = 1, .slots = 1, .states = 1, .phases = 1
#define statal_seen_SHAPE statal_SHAPE

INLINE vec V(statal_firing)(int gate, vec a, vec threshold, vec sharpness) {
    return gate == ACT_sigmoid ? V(sigmoid)(sharpness * (a - threshold)) : vsel_lt(threshold, a, vset(1), vset(0));
}

INLINE void V(statal_gates)(int f, int gate, const vec *x, const vec *h, const vec *s, vec *mid, vec *saved) {
    vec pre = x[0] + h[0], a = V(activate)(f, pre);
    mid[0] = a;
    mid[1] = V(statal_firing)(gate, a, s[2], s[3]);
    saved[0] = V(keep)(f, pre, a);
}

INLINE void V(statal_output)(int f, const vec *mid, const vec *s, vec *out, vec *saved) {
    (void)f, (void)saved;
    vec a = mid[0], g = mid[1], decay = s[2];
    out[0] = vfma(g, a, (1 - g) * (decay * s[0]));
    out[1] = a;
}

INLINE void V(statal_seen_gates)(int f, int gate, const vec *x, const vec *h, const vec *s, vec *mid, vec *saved) {
    V(statal_gates)(f, gate, x, h, s, mid, saved);
}

INLINE void V(statal_seen_output)(int f, const vec *mid, const vec *s, vec *out, vec *saved) {
    (void)f, (void)saved;
    vec a = mid[0], g = mid[1], decay = s[2];
    out[0] = vfma(1 - g, decay * s[0], g);
    out[1] = a;
}

INLINE void V(statal_backward_of)(int f, int gate, int seen, vec ds_new, const vec *saved, vec s, vec *ds, vec *dg) {
    vec a = V(kept_output)(f, saved[0]), threshold = saved[1], sharpness = saved[2], decay = saved[3];
    vec p = V(statal_firing)(ACT_sigmoid, a, threshold, sharpness), g = V(statal_firing)(gate, a, threshold, sharpness);
    vec da = ds_new * ((seen ? vset(1) : a) - decay * s) * (sharpness * p * (1 - p)) + ds[1];
    if (!seen) da = vfma(ds_new, g, da);
    dg[0] = da * V(derivative)(f, saved[0]);
    ds[0] = ds_new * (1 - g) * decay;
}

INLINE void V(statal_backward)(int f, int gate, vec product, const vec *saved, vec s, vec *ds, vec *dg) {
    V(statal_backward_of)(f, gate, 0, ds[0] + product, saved, s, ds, dg);
}

INLINE void V(statal_seen_backward)(int f, int gate, vec product, const vec *saved, vec s, vec *ds, vec *dg) {
    V(statal_backward_of)(f, gate, 1, ds[0] + product, saved, s, ds, dg);
}
