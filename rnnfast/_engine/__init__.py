"""The compiled engine. No word of Keras below this line."""

try:
    from rnnfast._engine.attention import AttentionOp
except ModuleNotFoundError as error:
    if error.name != "rnnfast._engine.attention":
        raise
    raise ImportError(
        f"{__path__[0]} holds rnnfast's sources, which are not compiled there. Start Python in another folder to use an installed rnnfast, or compile them with `pip install -e .`."
    ) from error
from rnnfast._engine.buffers import Buffer, Rows, Version, point_all
from rnnfast._engine.convolution import WindowOp, WindowRows
from rnnfast._engine.cpu import ACTIVATIONS, available_isas, dot4, elementwise, elementwise_back, isa, lanes, parts_values, split_panel_values, tiles
from rnnfast._engine.ctc import CTCOp, ctc_scratch_size
from rnnfast._engine.decoding import PrefixBeam, edit_distance
from rnnfast._engine.general import FUNCTIONS, GENERAL_CELLS, GeneralLayer
from rnnfast._engine.live import Channel, Intake, Lengths, Lesson, LiveStream, Outlet, PoolPlan, PoolRows, Predictor
from rnnfast._engine.normalization import BatchNormOp
from rnnfast._engine.program import (
    Lock,
    PairOp,
    Program,
    Trial,
    WaveOp,
    get_float32_matmul_precision,
    get_num_threads,
    set_float32_matmul_precision,
    set_num_threads,
)
from rnnfast._engine.python import PythonOp
from rnnfast._engine.recurrent import RecurrentLayer, cell_facts
from rnnfast._engine.recurrent_backward import outer_scratch
from rnnfast._engine.rowwise import PackOp, RowOp
from rnnfast._engine.staged import StagedLayer, row_cell_facts
from rnnfast._engine.watch import Watch, transpose

__all__ = [
    "ACTIVATIONS",
    "FUNCTIONS",
    "GENERAL_CELLS",
    "AttentionOp",
    "BatchNormOp",
    "Buffer",
    "CTCOp",
    "Channel",
    "GeneralLayer",
    "Intake",
    "Lengths",
    "Lesson",
    "LiveStream",
    "Lock",
    "Outlet",
    "PackOp",
    "PairOp",
    "PoolPlan",
    "PoolRows",
    "Predictor",
    "PrefixBeam",
    "Program",
    "PythonOp",
    "RecurrentLayer",
    "RowOp",
    "Rows",
    "StagedLayer",
    "Trial",
    "Version",
    "Watch",
    "WaveOp",
    "WindowOp",
    "WindowRows",
    "available_isas",
    "cell_facts",
    "ctc_scratch_size",
    "dot4",
    "edit_distance",
    "elementwise",
    "elementwise_back",
    "get_float32_matmul_precision",
    "get_num_threads",
    "isa",
    "lanes",
    "outer_scratch",
    "parts_values",
    "point_all",
    "row_cell_facts",
    "set_float32_matmul_precision",
    "set_num_threads",
    "split_panel_values",
    "tiles",
    "transpose",
]
