"""EnCodec's LSTM in MindSpore, which reads a signal in segments."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.references.musicgen_cases import MONO
from tests.unit.worker.engines.musicgen.conftest import Write
from worker.engines.musicgen.backends.mindspore.layers import Target
from worker.engines.musicgen.backends.mindspore.lstm import LONG_SEGMENT, SHORT_SEGMENT, LstmLayers, reorder_gates
from worker.engines.musicgen.model.configuration import ModelConfig
from worker.engines.musicgen.model.seanet import Lstm, list_decoder_layers
from worker.engines.musicgen.model.weights import Weights

Array = NDArray[Any]


def compute_lstm(layer: Lstm, weights: Weights, x: Array) -> Array:
    """Compute the LSTM frame by frame in double precision, with the gates in PyTorch's order."""
    names = [name for name, _ in layer.list_tensors()]
    y = x.astype(np.float64)
    for first in range(0, len(names), 4):
        input_weights, recurrent_weights, input_bias, recurrent_bias = (
            weights.read(name).astype(np.float64) for name in names[first : first + 4]
        )
        hidden = cell = np.zeros(layer.size)
        rows = []
        for row in y:
            gates = np.split(input_weights @ row + recurrent_weights @ hidden + input_bias + recurrent_bias, 4)
            input_gate, forget_gate, output_gate = (1 / (1 + np.exp(-gates[index])) for index in (0, 1, 3))
            cell = forget_gate * cell + input_gate * np.tanh(gates[2])
            hidden = output_gate * np.tanh(cell)
            rows.append(hidden)
        y = np.array(rows)
    return y


@pytest.mark.parametrize(
    ("frames", "segments"),
    [
        (1, 1),
        (SHORT_SEGMENT, 1),
        (SHORT_SEGMENT + 1, 2),
        (LONG_SEGMENT - SHORT_SEGMENT, 3),
        (LONG_SEGMENT - SHORT_SEGMENT + 1, 1),
        (LONG_SEGMENT, 1),
        (LONG_SEGMENT + SHORT_SEGMENT + 7, 3),
    ],
)
def test_states_are_passed_from_segment_to_segment(frames: int, segments: int, write_model: Write) -> None:
    folder = write_model(MONO)
    config = ModelConfig.read(folder)
    weights = Weights.open(folder, config)
    (layer,) = (layer for layer in list_decoder_layers(config.codec) if isinstance(layer, Lstm))
    x = np.random.default_rng(frames).standard_normal((frames, layer.size), dtype=np.float32)
    reports: list[None] = []
    y = LstmLayers(layer, weights, Target()).compute(x, lambda: reports.append(None))
    np.testing.assert_allclose(y, x + compute_lstm(layer, weights, x), atol=1e-5)
    assert len(reports) == segments


def test_reordered_gates_have_the_cell_gate_before_the_forget_gate() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(reorder_gates(rows)[:, 0], [0, 1, 4, 5, 2, 3, 6, 7])
