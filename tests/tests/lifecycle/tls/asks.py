"""A client: ADDRESS KIND:PORT:COUNT… All begin at once; it prints what came of each, a line each."""
import random
import socket
import ssl
import sys
from concurrent.futures import ThreadPoolExecutor

ADDRESS = sys.argv[1]
FAMILY = socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET
WAIT = 1.5


def connect(port):
    connection = socket.socket(FAMILY, socket.SOCK_STREAM)
    connection.settimeout(20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.connect((ADDRESS, port))
    return connection


def context(version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    return context


def echo(tls):
    said = random.randbytes(random.randrange(1, 3000))
    tls.sendall(said)
    got = b""
    while len(got) < len(said):
        got += tls.recv(4096)
    return "tls" if got == said else "wrong"


def over(connection, version=None):
    with context(version).wrap_socket(connection, server_hostname="test") as tls:
        return echo(tls)


def by_hand(port, cut, fast=False, protocols=None):
    """A handshake whose first flight is cut by hand."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    settings = context()
    if protocols:
        settings.set_alpn_protocols(protocols)
    tls = settings.wrap_bio(into, out, server_hostname="test")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = out.read()
    if fast:
        connection = socket.socket(FAMILY, socket.SOCK_STREAM)
        sent = connection.sendto(hello, socket.MSG_FASTOPEN, (ADDRESS, port))
        connection.settimeout(20)
        hello = hello[sent:]
    else:
        connection = connect(port)
    for piece in cut(hello):
        connection.sendall(piece)
    while True:
        try:
            tls.do_handshake()
            connection.sendall(out.read())
            break
        except ssl.SSLWantReadError:
            connection.sendall(out.read())
            into.write(connection.recv(65536))
    tls.write(b"hello")
    connection.sendall(out.read())
    while True:
        try:
            return "tls" if tls.read(5) == b"hello" else "wrong"
        except ssl.SSLWantReadError:
            into.write(connection.recv(65536))


def bytewise(hello):
    return [hello[at:at + 1] for at in range(20)] + [hello[20:]]


def answer(connection):
    connection.settimeout(WAIT)
    try:
        return "answered" if connection.recv(100) else "closed"
    except OSError:
        return "silence"


def plain(port):
    connection = connect(port)
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    return answer(connection)


def plain_bytewise(port):
    connection = connect(port)
    for byte in b"GET / HTTP/1.1\r\nHost: x\r\n\r\n":
        connection.sendall(bytes([byte]))
    return answer(connection)


def plain_fast(port):
    connection = socket.socket(FAMILY, socket.SOCK_STREAM)
    connection.sendto(b"GET / HTTP/1.1\r\n\r\n", socket.MSG_FASTOPEN, (ADDRESS, port))
    return answer(connection)


def postgres(port):
    connection = connect(port)
    connection.sendall(bytes.fromhex("0000000804d2162f"))
    said = answer(connection) if port != 5432 else connection.recv(1)
    if said != b"S":
        connection.sendall(b"user bob")
        return said
    connection.settimeout(20)
    return over(connection)


def datagram(port):
    socket.socket(FAMILY, socket.SOCK_DGRAM).sendto(b"orders.accepted:1|c", (ADDRESS, port))
    return "sent"


KINDS = {
    "tls12": lambda port: over(connect(port), ssl.TLSVersion.TLSv1_2),
    "tls13": lambda port: over(connect(port), ssl.TLSVersion.TLSv1_3),
    "bytewise": lambda port: by_hand(port, bytewise),
    "large": lambda port: by_hand(port, lambda hello: [hello], protocols=[f"protocol-{n:04}-{'x' * 200}" for n in range(40)]),
    "fast": lambda port: by_hand(port, lambda hello: [hello] if hello else [], fast=True),
    "plain": plain,
    "plain-bytewise": plain_bytewise,
    "plain-fast": plain_fast,
    "listen": lambda port: answer(connect(port)),
    "postgres": postgres,
    "datagram": datagram,
}


def ask(words):
    kind, port, count = words.split(":")
    found = {}
    for _ in range(int(count)):
        try:
            came = KINDS[kind](int(port))
        except OSError as error:
            came = f"failed: {error}"
        found[came] = found.get(came, 0) + 1
    return "; ".join(f"{word} {times}" for word, times in sorted(found.items()))


asks = sys.argv[2:]
with ThreadPoolExecutor(len(asks)) as threads:
    print(*threads.map(ask, asks), sep="\n")
