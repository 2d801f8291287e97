"""A process in the place of `sidecar.bus`: what the daemon says goes to a socket, what comes from there to the daemon.

It is run as a program, with the socket's path. Its end is that of the daemon's words, or, with status 3, of the socket.
"""

import os
import socket
import sys
import threading

SOCKET_ENDED = 3


def main(path: str) -> None:
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    threading.Thread(target=hand_on, args=(peer,), daemon=True).start()
    with open(1, "wb", buffering=0, closefd=False) as daemon:
        while data := peer.recv(65536):
            while data:
                data = data[daemon.write(data) :]
    os._exit(SOCKET_ENDED)


def hand_on(peer: socket.socket) -> None:
    while data := os.read(0, 65536):
        peer.sendall(data)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
