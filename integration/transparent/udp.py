"""Sends a datagram, and says whether the kernel refuses it."""
import socket, sys

family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
datagram = socket.socket(family, socket.SOCK_DGRAM)
datagram.settimeout(3)
try:
    datagram.connect((sys.argv[1], int(sys.argv[2])))
    datagram.send(b"zz9")
    datagram.recv(9)
    print("answered")
except (ConnectionRefusedError, PermissionError, OSError) as error:
    print("refused" if not isinstance(error, TimeoutError) else "nothing came back")
