"""clients -- talking to services: FastCGI to their sockets, HTTP to nginx."""

import contextlib
import http.client
import json
import socket
import struct
import subprocess
import threading

BEGIN, END, PARAMS, STDIN, STDOUT, STDERR = 1, 3, 4, 5, 6, 7


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers  # names in lower case
        self.body = body

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "%d %s" % (self.status, self.body[:300])


def _record(kind, content):
    out = bytearray()
    for at in range(0, len(content), 65535) or [0]:
        part = content[at:at + 65535]
        out += struct.pack(">BBHHBx", 1, kind, 1, len(part), 0) + part
    return bytes(out)


def _length(n):
    return struct.pack("B", n) if n < 128 else struct.pack(">I", n | 1 << 31)


def _params(pairs):
    out = bytearray()
    for name, value in pairs.items():
        name, value = name.encode(), value.encode()
        out += _length(len(name)) + _length(len(value)) + name + value
    return bytes(out)


def fcgi_head(method, path, headers, size, changes=None):
    uri, _, query = path.partition("?")
    params = {
        "REQUEST_METHOD": method, "REQUEST_URI": path, "QUERY_STRING": query,
        "CONTENT_TYPE": "", "CONTENT_LENGTH": "" if size is None else
        str(size), "REMOTE_ADDR": "127.0.0.1", "REQUEST_SCHEME": "http",
        "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "localhost"}
    for name, value in headers.items():
        if name.lower() == "content-type":
            params["CONTENT_TYPE"] = value
        else:
            params["HTTP_" + name.upper().replace("-", "_")] = value
    params.update(changes or {})
    return struct.pack(">BBHHBxHB5x", 1, BEGIN, 1, 8, 0, 1, 0) + \
        _record(PARAMS, _params(params)) + _record(PARAMS, b"")


def _read(sock, size):
    out = bytearray()
    while len(out) < size:
        got = sock.recv(size - len(out))
        if not got:
            raise ConnectionError("closed in mid-answer")
        out += got
    return bytes(out)


def _answer(text):
    head, _, body = text.partition(b"\r\n\r\n")
    headers = {}
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    status = int(headers.pop("status", "200").split()[0])
    return Answer(status, headers, body)


def fcgi(path_of_socket, method, path, body=b"", headers=None, timeout=30,
         size=None, params=None):
    """One request.  ``size`` is the length to claim, the body's unless
    said otherwise; ``params`` replace what a front would tell."""
    headers = dict(headers or {})
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(timeout)
        sock.connect(path_of_socket)
        request = fcgi_head(method, path, headers,
                            len(body) if size is None else size, params)
        if body:
            request += _record(STDIN, body)
        sock.sendall(request + _record(STDIN, b""))
        out = bytearray()
        while True:
            _, kind, _, length, padding = struct.unpack(
                ">BBHHBx", _read(sock, 8))
            content = _read(sock, length + padding)[:length]
            if kind == STDOUT:
                out += content
            elif kind == END:
                return _answer(bytes(out))


@contextlib.contextmanager
def fcgi_stub(path_of_socket, answers):
    """A service that gives these bodies, one a request; None: it ends in the
    middle of that one, and is gone."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path_of_socket)
        listener.listen(1)
        listener.settimeout(30)

        def serve():
            for body in answers:
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(30)
                    request = b""
                    while not request.endswith(_record(STDIN, b"")):
                        request += sock.recv(4096)
                    if body is None:
                        break
                    sock.sendall(_record(STDOUT, b"Status: 200\r\n\r\n" +
                                         body) + _record(END, bytes(8)))
            listener.close()
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join()


FETCH = 1


def _exactly(sock, size):
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


def _relay(source, sink, change):
    """Kafka's frames from one to the other; change gives what to send, or
    None: nothing."""
    try:
        while True:
            size = _exactly(source, 4)
            frame = change(_exactly(source, struct.unpack(">i", size)[0]))
            if frame is not None:
                sink.sendall(size + frame)
    except OSError:
        pass
    for sock in (source, sink):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@contextlib.contextmanager
def mute_broker(kafka_port, mute):
    """A port that leads to the broker, which says that it is there, and
    hears of no fetch that has one of these words in it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        there = b"127.0.0.1" + struct.pack(">i", kafka_port)
        here = b"127.0.0.1" + struct.pack(">i", port)

        def asked(frame):
            is_fetch = struct.unpack(">h", frame[:2])[0] == FETCH
            return None if is_fetch and any(w in frame for w in mute) else frame

        def serve():
            while True:
                try:
                    near, _ = listener.accept()
                except OSError:
                    return
                far = socket.create_connection(("127.0.0.1", kafka_port))
                for args in ((near, far, asked), (
                        far, near, lambda f: f.replace(there, here))):
                    threading.Thread(target=_relay, args=args,
                                     daemon=True).start()
        threading.Thread(target=serve, daemon=True).start()
        yield port


def fcgi_leave(path_of_socket, method, path, body, sent):
    """Begin a request, send some of the body, and go."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        sock.connect(path_of_socket)
        request = fcgi_head(method, path,
                            {"Content-Type": "application/json"}, len(body))
        if sent:
            request += _record(STDIN, body[:sent])
        sock.sendall(request)


def web(port, method, path, body=None, headers=None, timeout=30):
    """One request to nginx."""
    headers = dict(headers or {})
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    connection = http.client.HTTPConnection("127.0.0.1", port,
                                            timeout=timeout)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status,
                      {k.lower(): v for k, v in response.getheaders()},
                      response.read())
    finally:
        connection.close()


def raw(port, text, timeout=10, half_close=False):
    """Send bytes to nginx and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout) as sock:
        sock.sendall(text)
        if half_close:
            sock.shutdown(socket.SHUT_WR)
        out = bytearray()
        while True:
            got = sock.recv(65536)
            if not got:
                return bytes(out)
            out += got


def run_to_end(argv, seconds):
    """A program's end: returncode, stdout and stderr as text."""
    return subprocess.run(argv, capture_output=True, text=True,
                          timeout=seconds, check=False)
