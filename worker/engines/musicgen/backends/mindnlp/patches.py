"""MindNLP 0.5.1, imported without noise, and repaired where it makes MusicGen wrong.

Each repair says what it is for; ``test_backend.py`` fails without it.
"""

import logging
import os
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from worker.engines.musicgen.model.relative_positions import bucket_distances

_LSTM_LISTS: Final = {
    "w_ih_list": "weight_ih_l{}",
    "w_hh_list": "weight_hh_l{}",
    "b_ih_list": "bias_ih_l{}",
    "b_hh_list": "bias_hh_l{}",
}


@dataclass(frozen=True)
class MindNLP:
    """What MusicGen needs of it; it has no types.

    Parameters
    ----------
    torch
        MindNLP's replacement of it.
    model_class, processor_class
        Of transformers, over that.
    """

    torch: Any
    model_class: Any
    processor_class: Any


@cache
def import_mindnlp() -> MindNLP:
    """Import it, which takes seconds and changes the process for good.

    ``import torch`` finds MindNLP's replacement from then on,
    ``mindspore.Tensor`` behaves like torch's, ``importlib.metadata`` tells of a
    torch, and transformers, which must not have been imported before, reads files
    and attends through MindNLP. What MindSpore compiles runs as before.
    """
    # First, and with the user's HF_ENDPOINT: MindNLP sets another for all that reads it afterwards.
    import huggingface_hub.constants  # noqa: F401, PLC0415

    endpoint = os.environ.get("HF_ENDPOINT")
    logging.disable(logging.WARNING)  # libraries that nobody here needs tell of their experiments
    try:
        import mindtorch  # noqa: PLC0415 - nobody is to have this who has not chosen it
        from mindnlp.transformers import AutoProcessor, MusicgenForConditionalGeneration  # noqa: PLC0415 - the same
        from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - after MindNLP
    finally:
        logging.disable(logging.NOTSET)
        if endpoint is None:
            os.environ.pop("HF_ENDPOINT", None)
    # Each load would warn of statistics of EnCodec's training, and draw a bar.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    _repair_product(mindtorch)
    return MindNLP(mindtorch, MusicgenForConditionalGeneration, AutoProcessor)


def repair_model(model: Any, torch: Any) -> None:  # noqa: ANN401 - MindNLP has no types
    """Repair a loaded MusicGen."""
    for module in model.modules():
        if isinstance(module, torch.nn.LSTM):
            _repair_lstm(module)
    for block in model.text_encoder.encoder.block:
        _repair_distances(block.layer[0].SelfAttention, torch)


def _repair_product(torch: Any) -> None:  # noqa: ANN401 - the same
    """Let a boolean tensor times numbers be numbers.

    They stay booleans if they come first (MindNLP's issue 2265): EnCodec hears
    a clip, which transformers masks so, as ones and zeros or fails, and the delay pattern is lost.
    """
    multiply = torch.Tensor.__mul__

    def multiply_numbers_first(left: Any, right: Any) -> Any:  # noqa: ANN401 - the same
        if isinstance(right, torch.Tensor) and left.dtype == torch.bool:
            return multiply(right, left)
        return multiply(left, right)

    torch.Tensor.__mul__ = multiply_numbers_first


def _repair_lstm(lstm: Any) -> None:  # noqa: ANN401 - the same
    """Let an LSTM compute with the weights that were loaded.

    It computes with lists of those that it was made with, which loading
    replaces: the lists keep what memory happened to hold.
    """
    for name, weight in _LSTM_LISTS.items():
        setattr(lstm, name, [getattr(lstm, weight.format(layer)) for layer in range(lstm.num_layers)])


def _repair_distances(attention: Any, torch: Any) -> None:  # noqa: ANN401 - the same
    """Let T5 sort distances between tokens into the right buckets.

    MindSpore's logarithm on the CPU is a little too small for some powers of two, where buckets begin.
    """

    def sort_tensor(
        distances: Any,  # noqa: ANN401 - the same
        *,
        num_buckets: int,
        max_distance: int,
        **_: object,
    ) -> Any:  # noqa: ANN401 - the same
        buckets = bucket_distances(distances.numpy(), num_buckets, max_distance)
        return torch.from_numpy(buckets).to(distances.device)

    attention._relative_position_bucket = sort_tensor  # noqa: SLF001 - transformers' own name of it
