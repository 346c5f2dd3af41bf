"""The backend MindSpore: MusicGen's networks as cells, compiled for fixed shapes.

Each cell's ``construct`` is compiled by ``mindspore.jit`` and not by setting graph
mode for the process, so that other engines in it keep their mode. The decoder's
weights are parameters in memory that can be freed (`weight_memory`); those of the
text encoder and of the codec are inputs of their cells. The codec computes in
windows of two fixed shapes (`codec`), and its LSTM is called without compilation.
"""
