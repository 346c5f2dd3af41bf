"""MusicGen's networks as MindSpore cells, compiled for fixed shapes.

Each cell's ``construct`` is compiled by ``mindspore.jit`` rather than by setting
graph mode for the process, so that another engine in it keeps its mode. What a
cell multiplies by are MindSpore parameters made once; cells of other shapes
share them.
"""
