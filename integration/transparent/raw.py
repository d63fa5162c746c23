"""Says something that is neither TLS nor HTTP, and whether the other end hangs up."""
import socket, sys

stream = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
stream.sendall(b"\x00\x01zz9")
try:
    print("closed" if stream.recv(9) == b"" else "answered")
except ConnectionResetError:
    print("closed")
