"""protocol -- Kafka's messages, by the definitions in Apache Kafka's own jar.

Independent of pkg/wire: what is compared with it must not come from it.
Messages are dicts with the definitions' names; fields that aren't given have
their defaults, and unknown tagged fields are dropped.
"""

import glob
import json
import os
import re
import socket
import struct
import uuid
import zipfile

INTEGERS = {"int8": ">b", "int16": ">h", "int32": ">i", "int64": ">q",
            "uint16": ">H", "uint32": ">I", "float64": ">d"}
LATEST = 9999


def versions(text):
    """(least, most) of "3+", "0-2", "4" or "none"."""
    if not text or text == "none":
        return (1, 0)
    least, dash, most = text.rstrip("+").partition("-")
    if text.endswith("+"):
        return (int(least), LATEST)
    return (int(least), int(most if dash else least))


def within(version, text):
    least, most = versions(text)
    return least <= version <= most


class Bytes:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, n):
        if n < 0 or self.at + n > len(self.data):
            raise ValueError("the answer is cut short")
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def uvarint(self):
        n = shift = 0
        while True:
            byte = self.take(1)[0]
            n |= (byte & 0x7F) << shift
            if byte < 0x80:
                return n
            shift += 7


def uvarint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


class Message:
    def __init__(self, definition):
        self.definition = definition
        self.name = definition["name"]
        self.key = definition.get("apiKey")
        self.common = {s["name"]: s["fields"]
                       for s in definition.get("commonStructs", [])}

    def flexible(self, version):
        return within(version, self.definition["flexibleVersions"])

    def _fields(self, field, kind):
        return field.get("fields") or self.common.get(kind)

    @staticmethod
    def _may_be_null(field, version):
        """Whether a field's struct may; elements of arrays never are."""
        return not field["type"].startswith("[]") and \
            within(version, field.get("nullableVersions"))

    # -- writing ----------------------------------------------------------

    def encode(self, version, value):
        return self._put_struct(self.definition["fields"], version, value)

    def _put_struct(self, fields, version, value):
        out, tags = b"", []
        unknown = set(value) - {f["name"] for f in fields}
        if unknown:
            raise KeyError("%s has no %s" % (self.name, sorted(unknown)))
        for field in fields:
            if not within(version, field["versions"]):
                continue
            if within(version, field.get("taggedVersions")):
                if field["name"] in value:
                    tags.append((field["tag"], self._put(
                        field, field["type"], version, value[field["name"]])))
                continue
            out += self._put(field, field["type"], version,
                             value.get(field["name"], self._default(field)))
        if self.flexible(version):
            out += uvarint(len(tags))
            for tag, data in sorted(tags):
                out += uvarint(tag) + uvarint(len(data)) + data
        return out

    @staticmethod
    def _default(field):
        given = field.get("default")
        kind = field["type"]
        if given == "null":
            return None
        if kind.startswith("[]"):
            return []
        if kind in ("string", "bytes", "records", "uuid"):
            return {"string": given or "", "uuid": uuid.UUID(int=0)}.get(
                kind, b"")
        if kind == "bool":
            return str(given).lower() == "true"
        if kind in INTEGERS:
            return int(str(given or 0), 0)
        return {}

    def _length(self, version, n, form):
        if self.flexible(version):
            return uvarint(n + 1)
        return struct.pack(form, n)

    def _put(self, field, kind, version, value):
        if kind.startswith("[]"):
            if value is None:
                return self._length(version, -1, ">i")
            return self._length(version, len(value), ">i") + b"".join(
                self._put(field, kind[2:], version, v) for v in value)
        if kind in INTEGERS:
            return struct.pack(INTEGERS[kind], value)
        if kind == "bool":
            return b"\1" if value else b"\0"
        if kind == "uuid":
            return value.bytes
        if kind in ("string", "bytes", "records"):
            form = ">h" if kind == "string" else ">i"
            if value is None:
                return self._length(version, -1, form)
            raw = value.encode() if kind == "string" else value
            return self._length(version, len(raw), form) + raw
        if not self._may_be_null(field, version):
            return self._put_struct(self._fields(field, kind), version, value)
        return b"\xff" if value is None else b"\1" + self._put_struct(
            self._fields(field, kind), version, value)

    # -- reading ----------------------------------------------------------

    def decode(self, version, data):
        value = self._get_struct(self.definition["fields"], version, data)
        if data.at != len(data.data):
            raise ValueError("%s %d: %d bytes are left over" % (
                self.name, version, len(data.data) - data.at))
        return value

    def _get_struct(self, fields, version, data):
        value, tagged = {}, {}
        for field in fields:
            if not within(version, field["versions"]):
                continue
            if within(version, field.get("taggedVersions")):
                tagged[field["tag"]] = field
            else:
                value[field["name"]] = self._get(
                    field, field["type"], version, data)
        for _ in range(data.uvarint() if self.flexible(version) else 0):
            tag = data.uvarint()
            section = Bytes(data.take(data.uvarint()))
            if tag in tagged:
                value[tagged[tag]["name"]] = self._get(
                    tagged[tag], tagged[tag]["type"], version, section)
        return value

    def _get_length(self, version, form, data):
        if self.flexible(version):
            return data.uvarint() - 1
        return data.number(form)

    def _get(self, field, kind, version, data):
        if kind.startswith("[]"):
            n = self._get_length(version, ">i", data)
            return None if n < 0 else [
                self._get(field, kind[2:], version, data) for _ in range(n)]
        if kind in INTEGERS:
            return data.number(INTEGERS[kind])
        if kind == "bool":
            return data.take(1) != b"\0"
        if kind == "uuid":
            return uuid.UUID(bytes=data.take(16))
        if kind in ("string", "bytes", "records"):
            n = self._get_length(version, ">h" if kind == "string" else ">i",
                                 data)
            raw = None if n < 0 else data.take(n)
            return raw.decode() if kind == "string" and raw is not None \
                else raw
        # A struct that may be null has a byte ahead of it.
        if self._may_be_null(field, version) and data.number(">b") < 0:
            return None
        return self._get_struct(self._fields(field, kind), version, data)


class Definitions:
    def __init__(self, libs):
        jars = glob.glob(os.path.join(libs, "kafka-clients-*.jar"))
        self.requests, self.responses = {}, {}
        with zipfile.ZipFile(jars[0]) as jar:
            for path in jar.namelist():
                if not re.match(r"common/message/\w+Re(quest|sponse)\.json$",
                                path):
                    continue
                text = re.sub(r"(?m)^\s*//.*$", "", jar.read(path).decode())
                text = re.sub(r"(?m)\s//[^\"]*$", "", text)
                message = Message(json.loads(text))
                name = re.sub("Re(quest|sponse)$", "", message.name)
                (self.requests if message.name.endswith("Request")
                 else self.responses)[name] = message


class Connection:
    """One connection; answers come in the order of the requests."""

    def __init__(self, definitions, port):
        self.definitions = definitions
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.correlation = 0

    def close(self):
        self.socket.close()

    def send(self, name, version, body, raw=None):
        request = self.definitions.requests[name]
        self.correlation += 1
        head = struct.pack(">hhih", request.key, version, self.correlation,
                           4) + b"test"
        if raw is None:
            if request.flexible(version):
                head += b"\0"
            raw = request.encode(version, body)
        self.socket.sendall(struct.pack(">i", len(head) + len(raw)) +
                            head + raw)

    def _exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.socket.recv(n - len(data))
            if not part:
                raise ConnectionError("closed")
            data += part
        return data

    def receive(self, name, version):
        size, = struct.unpack(">i", self._exactly(4))
        data = Bytes(self._exactly(size))
        correlation = data.number(">i")
        if correlation != self.correlation:
            raise ValueError("an answer to request %d" % correlation)
        response = self.definitions.responses[name]
        if response.flexible(version) and name != "ApiVersions":
            for _ in range(data.uvarint()):
                data.uvarint()
                data.take(data.uvarint())
        return response.decode(version, data)

    def call(self, name, version, **body):
        self.send(name, version, body)
        return self.receive(name, version)
