"""MindNLP 0.5.1, imported without messages, and patched where it computes MusicGen wrongly.

Each patch says what it is for; ``test_backend.py`` fails without it.
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
    """What MusicGen needs of MindNLP, which has no types.

    Parameters
    ----------
    torch
        MindNLP's replacement of torch.
    model_class, processor_class
        Of transformers, on that replacement.
    """

    torch: Any
    model_class: Any
    processor_class: Any


@cache
def import_mindnlp() -> MindNLP:
    """Import MindNLP, which takes seconds and changes the process for good.

    Afterwards ``import torch`` finds MindNLP's replacement, ``mindspore.Tensor``
    behaves like torch's, ``importlib.metadata`` finds a torch, and transformers,
    which must not have been imported before, reads files and computes attention
    through MindNLP. What MindSpore compiles runs as before.
    """
    # Imported first, with the user's HF_ENDPOINT: MindNLP sets another one for all that reads the variable later.
    import huggingface_hub.constants  # noqa: F401, PLC0415

    endpoint = os.environ.get("HF_ENDPOINT")
    logging.disable(logging.WARNING)  # libraries that are not needed here warn about their experimental parts
    try:
        import mindtorch  # noqa: PLC0415 - it must not change the processes of other backends
        from mindnlp.transformers import AutoProcessor, MusicgenForConditionalGeneration  # noqa: PLC0415 - the same
        from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - after MindNLP
    finally:
        logging.disable(logging.NOTSET)
        if endpoint is None:
            os.environ.pop("HF_ENDPOINT", None)
    # Otherwise each load warns about missing statistics of EnCodec's training, and draws a progress bar.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    _patch_product(mindtorch)
    return MindNLP(mindtorch, MusicgenForConditionalGeneration, AutoProcessor)


def patch_model(model: Any, torch: Any) -> None:  # noqa: ANN401 - MindNLP has no types
    """Patch a loaded MusicGen."""
    for module in model.modules():
        if isinstance(module, torch.nn.LSTM):
            _patch_lstm(module)
    for block in model.text_encoder.encoder.block:
        _patch_distance_buckets(block.layer[0].SelfAttention, torch)


def _patch_product(torch: Any) -> None:  # noqa: ANN401 - the same
    """Make the product of a boolean tensor and numbers a tensor of numbers.

    With the booleans first it stays boolean (MindNLP's issue 2265). transformers
    masks a clip so: EnCodec then reads it as ones and zeros, or fails, and the delay pattern is lost.
    """
    multiply = torch.Tensor.__mul__

    def multiply_numbers_first(left: Any, right: Any) -> Any:  # noqa: ANN401 - the same
        if isinstance(right, torch.Tensor) and left.dtype == torch.bool:
            return multiply(right, left)
        return multiply(left, right)

    torch.Tensor.__mul__ = multiply_numbers_first


def _patch_lstm(lstm: Any) -> None:  # noqa: ANN401 - the same
    """Make an LSTM compute with the weights that were loaded.

    It computes with lists of the weights that it was created with. Loading
    replaces the weights but not the lists, which keep uninitialised memory.
    """
    for name, weight in _LSTM_LISTS.items():
        setattr(lstm, name, [getattr(lstm, weight.format(layer)) for layer in range(lstm.num_layers)])


def _patch_distance_buckets(attention: Any, torch: Any) -> None:  # noqa: ANN401 - the same
    """Make T5 put distances between tokens into the right buckets.

    MindSpore's logarithm on the CPU is a little too small for some powers of two, at which buckets begin.
    """

    def bucket_tensor(
        distances: Any,  # noqa: ANN401 - the same
        *,
        num_buckets: int,
        max_distance: int,
        **_: object,
    ) -> Any:  # noqa: ANN401 - the same
        buckets = bucket_distances(distances.numpy(), num_buckets, max_distance)
        return torch.from_numpy(buckets).to(distances.device)

    attention._relative_position_bucket = bucket_tensor  # noqa: SLF001 - transformers' own name of it
