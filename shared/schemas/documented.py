"""A decorator for typed dictionaries: the docstring below a field describes the field in the OpenAPI document."""

from pydantic import ConfigDict, with_config

documented = with_config(ConfigDict(use_attribute_docstrings=True))
