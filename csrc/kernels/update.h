/* Optimizer steps over a run of a parameter vector. The scalars are the optimizer's step_scalars(). */
static void V(update)(const rnnf_update *k, int64_t i0, int64_t i1) { (void)k, (void)i0, (void)i1; }
