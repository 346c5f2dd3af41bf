"""The limit of open files of a test's process, which hundreds of connections can reach."""

import resource


def allow_open_files() -> None:
    """Raise the limit of open files of this process as far as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
