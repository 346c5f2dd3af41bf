"""A toy kind of job: adds up numbers."""

from typing import Final

from shared.kinds.spec import KindSpec
from shared.kinds.toy.parameters import ToyParams
from shared.kinds.toy.result import ToyResult

SPEC: Final = KindSpec(params=ToyParams, result=ToyResult, example={"numbers": [1, 2, 3]})
