"""A command on a pseudo-terminal, and what its screen shows."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

LIMIT = 120  # seconds that anything may take on a busy machine


class Terminal:
    def __init__(self, command, env, columns=100, rows=30):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.execve(command[0], command, env)
        self.resize(columns, rows)
        self.text = ""

    def resize(self, columns, rows):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def echoes(self):
        return bool(termios.tcgetattr(self.fd)[3] & termios.ECHO)

    def read(self):
        if not select.select([self.fd], [], [], 0.1)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            data = b""
        self.text += data.decode(errors="replace")
        return bool(data)

    def expect(self, pattern, seconds=LIMIT):
        """Waits for a pattern; what came before and with it is consumed."""
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.text)
            if found:
                self.text = self.text[found.end():]
                return found
            if not self.read() or time.monotonic() > end:
                return None

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait(self):
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return None

    def screen(self):
        """The lines that all of the text leaves on the alternate screen; None where that is not shown."""
        lines, row, shown = [""], 0, None
        for sequence, plain in re.findall(r"(\x1b\[[?0-9;]*[A-Za-z]|\r\n|\n|\r)|([^\x1b\r\n]+)", self.text):
            if sequence in ("\x1b[?1049h", "\x1b[?1049l"):
                lines, row, shown = [""], 0, sequence.endswith("h")
            elif sequence == "\x1b[H":
                row, column = 0, 0
            elif sequence == "\x1b[K":
                lines[row] = lines[row][:column]
            elif sequence == "\x1b[J":
                lines = [*lines[:row], lines[row][:column]]
            elif sequence == "\r\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif plain and shown:
                lines[row] = lines[row][:column] + plain + lines[row][column + len(plain):]
                column += len(plain)
        return lines if shown else None
