"""The version of mindjobs, as ``pyproject.toml`` states it; the application is not installed as a package."""

from typing import Final

VERSION: Final = "0.1.0"
SOFTWARE: Final = f"mindjobs {VERSION}"
