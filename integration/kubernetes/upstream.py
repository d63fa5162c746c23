"""What is outside: an API by HTTPS that says who called, and ports where nothing should arrive.

Arguments: the file to note what arrives in, certificate, key.
"""
import http.server
import socket
import ssl
import sys
import threading
import time

note_file, certificate, key = sys.argv[1:4]
lock = threading.Lock()


def note(text):
    with lock, open(note_file, "a") as notes:
        notes.write(text + "\n")


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        note(f"api {self.path} {self.headers.get('outrider-decision-id', 'undecided')}")
        if self.path.endswith("/slow"):
            note("slow begins")
            time.sleep(2)
        body = b"hello\n"
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def stray(kind):
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("0.0.0.0", 9001))
        if kind == socket.SOCK_STREAM:
            one.listen()
        while True:
            if kind == socket.SOCK_STREAM:
                peer, _ = one.accept()
                note("stray tcp")
                peer.close()
            else:
                one.recvfrom(2000)
                note("stray udp")


for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    threading.Thread(target=stray, args=[kind], daemon=True).start()
server = http.server.ThreadingHTTPServer(("0.0.0.0", 443), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True)
note("ready")
server.serve_forever()
