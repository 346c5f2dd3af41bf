"""MusicGen's networks as MindSpore cells, compiled for fixed shapes.

Each cell's ``construct`` is compiled by ``mindspore.jit`` rather than by setting
graph mode for the process, so that another engine in it keeps its mode. The
decoder's weights are parameters in memory that can be given back (`pages`), those
of the text encoder and of the codec are inputs of their cells; the codec works in
windows of two fixed shapes (`codec`), and its LSTM is called, not compiled.
"""
