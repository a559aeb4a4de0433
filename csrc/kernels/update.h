/* Optimizer steps over a run of a parameter vector. The equations, with their sources, and the order of the scalars are those of rnnfast.optimizers; each
 * weight first loses scalars[1] of itself (decoupled decay). */
#define U_LOAD(p) vload_n((const real *)(p) + i, n)
#define U_STORE(p, x) vstore_n((real *)(p) + i, x, n)

INLINE vec V(update_sgd)(const rnnf_update *k, vec g, int64_t i, int64_t n) {
    const double *s = k->scalars;
    if (!k->slot[0]) return vset(s[0]) * g;
    vec v = vset(s[2]) * U_LOAD(k->slot[0]) - vset(s[0]) * g;
    U_STORE(k->slot[0], v);
    return s[3] != 0 ? vset(s[0]) * g - vset(s[2]) * v : -v;
}

INLINE vec V(update_rmsprop)(const rnnf_update *k, vec g, int64_t i, int64_t n) {
    const double *s = k->scalars;
    const int momentum = s[3] != 0, centered = s[5] != 0;
    vec v = vset(s[2]) * U_LOAD(k->slot[0]) + vset(1 - s[2]) * (g * g), power = v;
    U_STORE(k->slot[0], v);
    if (centered) {
        void *slot = k->slot[momentum ? 2 : 1];
        vec mean = vset(s[2]) * U_LOAD(slot) + vset(1 - s[2]) * g;
        U_STORE(slot, mean);
        power = v - mean * mean;
    }
    vec step = vset(s[0]) * g / V(lanes_sqrt)(power + vset(s[4]));
    if (!momentum) return step;
    step += vset(s[3]) * U_LOAD(k->slot[1]);
    U_STORE(k->slot[1], step);
    return step;
}

INLINE vec V(update_adam)(const rnnf_update *k, vec g, int64_t i, int64_t n) {
    const double *s = k->scalars;
    vec m = U_LOAD(k->slot[0]), v = U_LOAD(k->slot[1]);
    m += vset(s[2]) * (g - m);
    v += vset(s[3]) * (g * g - v);
    U_STORE(k->slot[0], m);
    U_STORE(k->slot[1], v);
    if (s[5] != 0) {
        v = vmax(U_LOAD(k->slot[2]), v);
        U_STORE(k->slot[2], v);
    }
    return vset(s[0]) * m / (V(lanes_sqrt)(v) + vset(s[4]));
}

INLINE vec V(update_nadam)(const rnnf_update *k, vec g, int64_t i, int64_t n) {
    const double *s = k->scalars;
    vec m = U_LOAD(k->slot[0]), v = U_LOAD(k->slot[1]);
    m += vset(s[3]) * (g - m);
    v += vset(s[4]) * (g * g - v);
    U_STORE(k->slot[0], m);
    U_STORE(k->slot[1], v);
    return (vset(s[0]) * m + vset(s[2]) * g) / (V(lanes_sqrt)(v * vset(s[6])) + vset(s[5]));
}

INLINE vec V(update_adagrad)(const rnnf_update *k, vec g, int64_t i, int64_t n) {
    const double *s = k->scalars;
    vec a = U_LOAD(k->slot[0]) + g * g;
    U_STORE(k->slot[0], a);
    return vset(s[0]) * g / V(lanes_sqrt)(a + vset(s[2]));
}

static void V(update)(const rnnf_update *k, int64_t i0, int64_t i1) {
    for (int64_t i = i0; i < i1; i += LANES) {
        const int64_t n = i1 - i < LANES ? i1 - i : LANES;
        vec w = U_LOAD(k->w), g = U_LOAD(k->g), step;
        if (k->clip > 0) g = vmin(vset(k->clip), vmax(vset(-k->clip), g));
        switch (k->kind) {
        case UPDATE_sgd: step = V(update_sgd)(k, g, i, n); break;
        case UPDATE_rmsprop: step = V(update_rmsprop)(k, g, i, n); break;
        case UPDATE_adam: step = V(update_adam)(k, g, i, n); break;
        case UPDATE_nadam: step = V(update_nadam)(k, g, i, n); break;
        default: step = V(update_adagrad)(k, g, i, n);
        }
        U_STORE(k->w, w - w * vset(k->scalars[1]) - step);
    }
}
#undef U_LOAD
#undef U_STORE
