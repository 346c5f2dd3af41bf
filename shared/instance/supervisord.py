"""Run Supervisor as a child of `up`: ``python -m shared.instance.supervisord PARENT OPTION…``.

If a process of an instance is killed (SIGKILL), it cannot stop the processes that it has started. So the kernel kills
these: Supervisor ends with the process ``PARENT``, and each process that Supervisor starts ends with Supervisor.
"""

import os
import sys
from functools import partial

from supervisor import supervisord

from shared.parent_process import end_with_parent


def main() -> None:
    """Run Supervisor."""
    parent, *options = sys.argv[1:]
    end_with_parent(int(parent))
    # The function runs in each child before the child executes its program.
    os.register_at_fork(after_in_child=partial(end_with_parent, os.getpid()))
    supervisord.main(options)


if __name__ == "__main__":
    main()
