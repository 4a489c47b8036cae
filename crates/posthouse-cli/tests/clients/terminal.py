"""Runs a command on a terminal of 100 columns, copies its output, and exits with its exit code.

    terminal.py COMMAND [ARGUMENT...]
"""

import fcntl
import os
import pty
import struct
import sys
import termios

process, terminal = pty.fork()
if process == 0:
    # The size must be set before the command draws anything.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    os.environ["TERM"] = "xterm"
    os.execvp(sys.argv[1], sys.argv[1:])

while True:
    try:
        said = os.read(terminal, 65536)
    except OSError:
        # Linux reports the end of a terminal as an error.
        break
    if not said:
        break
    sys.stdout.buffer.write(said)

sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
