"""Documents typed dictionaries: the docstring below a field becomes the field's description in the OpenAPI document."""

from pydantic import ConfigDict, with_config

documented = with_config(ConfigDict(use_attribute_docstrings=True))
