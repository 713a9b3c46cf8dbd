"""Servers that speak TLS, or do not, and note what their applications are given: ADDRESS DIRECTORY."""
import socket
import ssl
import sys
import threading

ADDRESS, DIRECTORY = sys.argv[1:3]
FAMILY = socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET


def heard(port, data):
    with open(f"{DIRECTORY}/heard-{port}", "ab") as file:
        file.write(data)


def context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{DIRECTORY}/cert.pem", f"{DIRECTORY}/key.pem")
    return context


def secure(port, connection):
    with context().wrap_socket(connection, server_side=True) as tls:
        while data := tls.recv(4096):
            tls.sendall(data)


def plain(port, connection):
    while data := connection.recv(4096):
        heard(port, data)
        connection.sendall(b"plain: " + data)


def first(port, connection):
    connection.sendall(b"SSH-2.0-test\r\n")
    plain(port, connection)


def willing(port, connection):
    if connection.recv(8, socket.MSG_WAITALL) == bytes.fromhex("0000000804d2162f"):
        connection.sendall(b"S")
        secure(port, connection)


def unwilling(port, connection):
    connection.recv(8, socket.MSG_WAITALL)
    connection.sendall(b"N")
    plain(port, connection)


def serve(port, speak):
    listener = socket.socket(FAMILY, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 16)
    listener.bind((ADDRESS, port))
    listener.listen(128)

    def one(connection):
        try:
            with connection:
                connection.settimeout(20)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                speak(port, connection)
        except OSError:
            pass

    def all():
        while True:
            threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=all, daemon=True).start()


for port, speak in [(8443, secure), (8444, plain), (8445, first), (5432, willing), (5433, unwilling), (8446, secure), (8447, plain)]:
    serve(port, speak)
datagrams = socket.socket(FAMILY, socket.SOCK_DGRAM)
datagrams.bind((ADDRESS, 8125))
print("ready", flush=True)
while True:
    heard(8125, datagrams.recv(4096))
