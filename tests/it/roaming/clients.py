"""A TLS client that connects from any address and can resume its sessions.

Each line of the input is one connection: SOURCE SAVE LOAD. The client connects from SOURCE, resumes the session that an
earlier connection saved as LOAD (`-`: a full handshake), and saves its own session as SAVE. It prints the body of the
response, and whether the session was resumed.
"""

import socket
import ssl
import sys

host, port, name, version = sys.argv[1:5]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
sessions = {"-": None}
for line in sys.stdin:
    source, save, load = line.split()
    plain = socket.create_connection((host, int(port)), 60, (source, 0))
    with context.wrap_socket(
        plain, server_hostname=name, session=sessions[load]
    ) as secure:
        secure.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        response = b""
        while chunk := secure.recv(65536):
            response += chunk
        sessions[save] = secure.session
        body = response.partition(b"\r\n\r\n")[2].decode()
        print(body, "resumed" if secure.session_reused else "full", flush=True)
