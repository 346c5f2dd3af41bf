"""How typed dictionaries document their fields: the text below a field becomes its description."""

from pydantic import ConfigDict, with_config

documented = with_config(ConfigDict(use_attribute_docstrings=True))
