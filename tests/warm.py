"""``python -I -S tests/warm.py SOCKET MODULE ARGUMENT…``: what ``python -m MODULE ARGUMENT…`` does and says, in a process
that a running `tests.fork_server` forks. For commands of a shell; it waits for the end, and passes no signal on."""

import json
import os
import socket
import struct
import sys


def main() -> int:
    told, telling = os.pipe()
    request = {
        "module": sys.argv[2],
        "arguments": sys.argv[3:],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "session": False,
    }
    body = json.dumps(request).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(sys.argv[1])
        socket.send_fds(server, [struct.pack("!I", len(body))], [0, 1, 2, telling])
        server.sendall(body)
        os.close(telling)
        server.recv(4)
    found = os.read(told, 4)
    (code,) = struct.unpack("!i", found) if found else (-9,)
    return int(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    sys.exit(main())
