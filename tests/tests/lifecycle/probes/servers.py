"""Servers of a test: one a line of standard input, `PORT KIND…`, on every address. Says what it has accepted, by port."""

import socket
import ssl
import sys
import threading
import time

directory = sys.argv[1]


def context(version, verify, name):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = made.maximum_version = getattr(ssl.TLSVersion, version)
    made.load_cert_chain(f"{directory}/{name}.pem")
    made.verify_mode = getattr(ssl, verify)
    if made.verify_mode != ssl.CERT_NONE:
        made.load_verify_locations(f"{directory}/authority.pem")
    return made


def treat(stream, kind, made):
    try:
        if kind == "tls":
            stream = made.wrap_socket(stream, server_side=True)
            stream.recv(1)
        elif kind == "http":
            stream.recv(4096)
            stream.sendall(b"HTTP/1.0 400 Bad Request\r\nX-Secret: token-4711\r\n\r\n")
        elif kind == "ssh":
            stream.sendall(b"SSH-2.0-OpenSSH_9.2 token-4711\r\n")
            stream.recv(4096)
        elif kind == "silent":
            time.sleep(60)
    except OSError:
        pass
    finally:
        stream.close()


def serve(port, kind, made):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    print(f"ready {port}", flush=True)
    while True:
        stream, _ = server.accept()
        print(f"accepted {port}", flush=True)
        threading.Thread(target=treat, args=(stream, kind, made), daemon=True).start()


for line in sys.stdin:
    port, kind, *more = line.split()
    made = context(*more) if kind == "tls" else None
    threading.Thread(target=serve, args=(int(port), kind, made), daemon=True).start()
threading.Event().wait()
