"""lossy -- a bad line to a broker: it breaks while something is being sent.

Clients connect to 127.0.0.2, and what they say is passed on to the broker on
127.0.0.1, same port.  Of all requests to produce every N-th breaks the
connection: by turns before it gets to the broker, and after, when its answer
is on its way back.
"""

import socket
import struct
import threading

HOST = "127.0.0.2"
PRODUCE = 0
ANSWER_S = 0.05  # who asks for no acknowledgement gets no answer


def frame_of(sock):
    """A whole request or answer, or None at the end."""
    out = b""
    while len(out) < 4 or len(out) < 4 + struct.unpack(">i", out[:4])[0]:
        want = 4 - len(out) if len(out) < 4 else \
            4 + struct.unpack(">i", out[:4])[0] - len(out)
        got = sock.recv(want)
        if not got:
            return None
        out += got
    return out


class Lossy:
    """Close it; what goes through it ends then."""

    def __init__(self, port, every):
        self.port = port
        self.every = every
        self.lock = threading.Lock()
        self.produced = self.before = self.after = 0
        self.listener = socket.create_server((HOST, port))
        self.open = []
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                broker = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                return
            self.open += [client, broker]
            threading.Thread(target=self._serve, daemon=True,
                             args=(client, broker)).start()

    def _fault(self):
        """What becomes of this request to produce."""
        with self.lock:
            self.produced += 1
            if self.produced % self.every:
                return None
            if self.before <= self.after:
                self.before += 1
                return "before"
            self.after += 1
            return "after"

    def _serve(self, client, broker):
        """One connection: requests here, answers in a thread of theirs."""
        swallow = threading.Event()
        swallowed = threading.Event()

        def answers():
            try:
                while (frame := frame_of(broker)) is not None:
                    if swallow.is_set():
                        swallowed.set()
                        return
                    client.sendall(frame)
            except OSError:
                pass
        threading.Thread(target=answers, daemon=True).start()
        try:
            while (frame := frame_of(client)) is not None:
                api, = struct.unpack_from(">h", frame, 4)
                fault = self._fault() if api == PRODUCE else None
                if fault == "before":
                    break
                if fault == "after":
                    swallow.set()
                broker.sendall(frame)
                if fault == "after":
                    swallowed.wait(ANSWER_S)
                    break
        except OSError:
            pass
        for sock in client, broker:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other end was first

    def close(self):
        for sock in self.open + [self.listener]:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        self.thread.join()
