"""Imports MindNLP 0.5.1 without its messages, and patches the code that computes MusicGen wrongly.

The docstring of each patch says what the patch is for. If one of the patches is missing, ``test_backend.py`` fails.
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
    """The parts of MindNLP that MusicGen needs. MindNLP has no types, hence ``Any``.

    Parameters
    ----------
    torch
        MindNLP's replacement of torch.
    model_class, processor_class
        Classes of transformers, which compute with that replacement.
    """

    torch: Any
    model_class: Any
    processor_class: Any


@cache
def import_mindnlp() -> MindNLP:
    """Import MindNLP, which takes seconds and changes the process permanently.

    Afterwards ``import torch`` imports MindNLP's replacement, ``mindspore.Tensor``
    behaves like the tensor of torch, ``importlib.metadata`` reports that torch is
    installed, and transformers reads files and computes attention through MindNLP.
    Transformers must not be imported before MindNLP. Code that MindSpore compiles
    runs as before.
    """
    # MindNLP changes the variable HF_ENDPOINT. So the following module, which must read the user's value, is imported
    # before MindNLP.
    import huggingface_hub.constants  # noqa: F401, PLC0415

    endpoint = os.environ.get("HF_ENDPOINT")
    logging.disable(logging.WARNING)  # libraries that are not needed here warn about their experimental parts
    try:
        import mindtorch  # noqa: PLC0415 - at the top, it would change the processes of other backends
        from mindnlp.transformers import AutoProcessor, MusicgenForConditionalGeneration  # noqa: PLC0415 - as for mindtorch
        from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - must be imported after MindNLP
    finally:
        logging.disable(logging.NOTSET)
        if endpoint is None:
            os.environ.pop("HF_ENDPOINT", None)
    # Otherwise transformers warns about missing statistics of EnCodec's training and draws a progress bar, whenever it
    # loads a model.
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


def _patch_product(torch: Any) -> None:  # noqa: ANN401 - MindNLP has no types
    """Make the product of a boolean tensor and numbers a tensor of numbers.

    Without the patch, the product is boolean if the boolean tensor is the first factor
    (MindNLP's issue 2265). In this order, transformers multiplies a mask by a clip, and
    a mask by the tokens of the delay pattern. Without the patch, EnCodec would read the
    clip as ones and zeros, or fail, and the delay pattern would be lost.
    """
    multiply = torch.Tensor.__mul__

    def multiply_numbers_first(left: Any, right: Any) -> Any:  # noqa: ANN401 - MindNLP has no types
        if isinstance(right, torch.Tensor) and left.dtype == torch.bool:
            return multiply(right, left)
        return multiply(left, right)

    torch.Tensor.__mul__ = multiply_numbers_first


def _patch_lstm(lstm: Any) -> None:  # noqa: ANN401 - MindNLP has no types
    """Make an LSTM compute with the weights that were loaded.

    When MindNLP's LSTM is created, it puts its weights into lists, and later computes
    with the weights in these lists. Loading a model replaces the weights but not the
    lists. So without the patch, the lists would still contain the weights from the
    creation, which are uninitialised memory.
    """
    for name, weight in _LSTM_LISTS.items():
        setattr(lstm, name, [getattr(lstm, weight.format(layer)) for layer in range(lstm.num_layers)])


def _patch_distance_buckets(attention: Any, torch: Any) -> None:  # noqa: ANN401 - MindNLP has no types
    """Make T5 put distances between tokens into the right distance buckets.

    On the CPU, MindSpore's logarithm is a little too small for some powers of two. Distance buckets begin at powers of
    two, so such a distance would be put into the bucket before the right one.
    """

    def bucket_tensor(
        distances: Any,  # noqa: ANN401 - MindNLP has no types
        *,
        num_buckets: int,
        max_distance: int,
        **_: object,
    ) -> Any:  # noqa: ANN401 - MindNLP has no types
        buckets = bucket_distances(distances.numpy(), num_buckets, max_distance)
        return torch.from_numpy(buckets).to(distances.device)

    attention._relative_position_bucket = bucket_tensor  # noqa: SLF001 - transformers calls the method by this name
