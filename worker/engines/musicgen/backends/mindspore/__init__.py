"""The backend MindSpore: MusicGen's networks as cells, compiled for fixed shapes.

The method ``construct`` of each cell is compiled by ``mindspore.jit``. Graph mode is
not set for the whole process, so that other engines in the process keep their mode.
The weights of the decoder are parameters in memory that can be freed
(`weight_memory`); the weights of the text encoder and of the codec are inputs of the
cells. The codec computes in windows of two fixed shapes (`codec`), and the LSTM of
the codec is called without compilation (`lstm`).
"""
