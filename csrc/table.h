/* One element type of one ISA: the kernels and their table. */
#include "simd.h"
#include "simd_math.h"
#include "activations.h"
#include "cells/simple_rnn.h"
#include "cells/lstm.h"
#include "cells/gru.h"
#include "cells/gru_reset_before.h"
#include "cells/statal.h"
#include "cells/indrnn.h"
#include "cells/mingru.h"
#include "cells/peephole_lstm.h"
#include "kernels/tile.h"
#include "kernels/stored.h"
#include "kernels/matmul.h"
#include "kernels/step.h"
#include "kernels/run.h"
#include "kernels/cell_rows.h"
#include "kernels/elementwise.h"
#include "kernels/rows.h"
#include "kernels/columns.h"
#include "kernels/attention.h"
#include "kernels/loss.h"
#include "kernels/update.h"
#include "kernels/ctc.h"
#include "kernels/rates.h"

#define ONE_PHASE(cell, product, first, ...) \
    [CELL_##cell] = {.name = #cell, cell##_SHAPE, .phase = {{product, first, V(cell##_step), V(cell##_step_back)}}, __VA_ARGS__}

const rnnf_kernels V(rnnf) = {
    .isa = TEXT(ISA),
    .dtype = REAL64 ? "float64" : "float32",
    .lanes = (int)LANES,
    .itemsize = sizeof(real),
    .cell = {ONE_PHASE(simple_rnn, 1, 0, .run = V(simple_rnn_run)), ONE_PHASE(lstm, 4, 0, .run = V(lstm_run)), ONE_PHASE(gru, 3, 1, .run = V(gru_run)),
             ONE_PHASE(statal, 1, 0), ONE_PHASE(statal_seen, 1, 0), ONE_PHASE(indrnn, 0, 0), ONE_PHASE(mingru, 0, 0),
             ONE_PHASE(peephole_lstm, 4, 0, .run = V(peephole_lstm_run)),
             [CELL_gru_reset_before] = {.name = "gru_reset_before",
                                        gru_reset_before_SHAPE,
                                        .phase = {{2, 1, V(gru_reset_before_gates_step), V(gru_reset_before_candidate_step_back)},
                                                  {1, 0, V(gru_reset_before_candidate_step), V(gru_reset_before_gates_step_back)}},
                                        .run = V(gru_reset_before_run)}},
    .row_cell = {{LSTM_ROWS, .row_gates = V(lstm_row_gates), .row_output = V(lstm_row_output), .row_backward = V(lstm_row_backward),
                  .row_output_backward = V(lstm_row_output_backward)},
                 {GRU_ROWS, .row_gates = V(gru_row_gates), .row_output = V(gru_row_output), .row_backward = V(gru_row_backward)}},
    .matmul = V(matmul),
    .outer = V(outer),
    .column_sum = V(column_sum),
    .pack = V(pack),
    .pack_transposed = V(pack_transposed),
#if !REAL64
    .pack_stored = V(pack_stored),
#endif
    .activate = V(activate_array),
    .derivative = V(derivative_array),
    .row_activate = V(row_activate),
    .row_derivative = V(row_derivative),
    .loss = V(loss),
    .update = V(update),
    .sum_squares = V(sum_squares),
    .penalize = V(penalize),
    .add = V(add),
    .multiply = V(multiply),
    .scale = V(scale),
    .maximum = V(maximum),
    .count_equal = V(count_equal),
    .share_equal = V(share_equal),
    .dropout = V(dropout),
    .keep = V(keep_noise),
    .normalize = V(normalize),
    .normalize_back = V(normalize_back),
    .normalize_sums = V(normalize_sums),
    .column_moments = V(column_moments),
    .standardize = V(standardize),
    .column_products = V(column_products),
    .standardize_back = V(standardize_back),
    .widen = V(widen),
    .narrow = V(narrow),
    .log_sum_exp = V(log_sum_exp),
    .exp_below = V(exp_below),
    .ctc_step = V(ctc_step),
    .dot = V(dot),
    .read_only = V(read_only),
    .multiply_adds = V(multiply_adds),
    .additive = V(additive),
    .additive_back = V(additive_back),
};

#undef LANES
#undef UNROLL
#undef INLINE
#undef vec
#undef ivec
#undef svec
#undef vwiden8
#undef vmadd
#undef vdot4
#undef stored
#undef stored_operands
#undef stored_product
#undef vload
#undef vstore
#undef vload_few
#undef vstore_few
#undef vload_n
#undef vstore_n
#undef vset
#undef vfma
#undef vmax
#undef vmin
#undef vsel_lt
#undef vsel_negative
#undef vsignbit
#undef vabs
#undef vnabs
#undef vcopysign
