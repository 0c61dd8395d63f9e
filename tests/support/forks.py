"""One command in many processes at once: ``python -m tests.support.forks COUNT COMMAND...``.

Forked, since they begin closer together than as many interpreters would.
"""

import os
import sys

from agentstore.cli import main

if __name__ == "__main__":
    count, *command = sys.argv[1:]
    started = []
    for _ in range(int(count)):
        if not (pid := os.fork()):
            sys.argv = ["agentstore", *command]
            main()
        started.append(pid)
    failed = [pid for pid in started if os.waitpid(pid, 0)[1]]
    sys.exit(f"{len(failed)} of {count} failed" if failed else 0)
