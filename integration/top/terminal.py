"""A terminal of our own around `outrider top`. Argument: BINARY"""
import fcntl
import http.server
import os
import pty
import select
import signal
import struct
import sys
import termios
import threading
import time

binary = sys.argv[1]
PAGE = """# HELP outrider_calls_total Calls.
# TYPE outrider_calls_total counter
outrider_calls_total{service="crm",tool="crm/a-tool-with-quite-a-long-name",outcome="allow",code="ok"} %d
# HELP outrider_build_info Build.
# TYPE outrider_build_info gauge
outrider_build_info{version="0.1.0",isolation="uid"} 1
"""
asked = 0


class Admin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        body = (PAGE % (asked * 10) if self.path == "/metrics" else '{"ready":true}').encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


admin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Admin)
threading.Thread(target=admin.serve_forever, daemon=True).start()


def size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def until(fd, wanted, patience=20):
    """Reads what is drawn until it holds something; an end of the terminal is one, too."""
    text, end = "", time.monotonic() + patience
    while not wanted(text):
        assert time.monotonic() < end, repr(text[-2000:])
        if select.select([fd], [], [], 0.1)[0]:
            try:
                text += os.read(fd, 65536).decode(errors="replace")
            except OSError:
                break
    return text


def top(ends):
    """Runs it in a terminal of 20 lines, makes that smaller, and ends it."""
    ours, theirs = pty.openpty()
    size(ours, 20, 100)
    before = termios.tcgetattr(theirs)
    child = os.fork()
    if child == 0:
        os.setsid()
        fcntl.ioctl(theirs, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(theirs, fd)
        os.execv(binary, [binary, "top", "--admin", f"127.0.0.1:{admin.server_port}", "--interval", "200ms"])
    first = until(ours, lambda text: "TOOL, SLOWEST FIRST" in text and "a-tool-with-quite-a-long-name" in text)
    assert first.startswith("\x1b[?1049h\x1b[?25l"), repr(first[:80])
    assert termios.tcgetattr(theirs)[3] & termios.ECHO == 0, "keys are shown"
    size(ours, 6, 60)
    os.kill(child, signal.SIGWINCH)
    small = until(ours, lambda text: text.count("\x1b[H") >= 2)
    page = small.split("\x1b[H")[-1].split("\x1b[J")[0]
    lines = page.replace("\x1b[K", "").replace("\r", "").split("\n")
    assert len(lines) <= 6 and all(len(line) <= 60 for line in lines), lines
    ends(ours, child)
    last = until(ours, lambda text: "\x1b[?1049l" in text)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status
    assert "\x1b[?25h" in last, "no cursor"
    assert termios.tcgetattr(theirs) == before, "the terminal is not as it was"
    os.close(ours)
    os.close(theirs)


top(lambda ours, child: os.write(ours, b"q"))
top(lambda ours, child: os.write(ours, b"\x03"))
top(lambda ours, child: os.kill(child, signal.SIGTERM))
print("top: drawn, made smaller, ended by q, Ctrl-C and SIGTERM; the terminal is given back as it was")
