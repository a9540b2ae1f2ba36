"""Serves a model on the Unix socket that is its stdin: argv is the models' folder and the method.

A message is its length (four bytes, little-endian) and that many bytes of msgpack."""

import socket
import struct
import sys

import msgpack

# Some twenty requests: if more are there, the host takes the answers to these while the worker
# goes on. With much more or less, one worker answers a third fewer pipelined calls.
READ_AT_MOST = 2048


def serve(connection, model):
    """Answers what is there to read with one write, until the host is gone."""
    receive, send = connection.recv, connection.sendall
    unpack, pack = msgpack.unpackb, msgpack.packb
    header = struct.Struct("<I")
    pack_size, unpack_size = header.pack, header.unpack_from
    rest = b""
    while True:
        data = receive(READ_AT_MOST)
        if not data:
            return
        if rest:
            data = rest + data
        begin, end, answers = 0, len(data), []
        while end - begin >= 4:
            (size,) = unpack_size(data, begin)
            behind = begin + 4 + size
            if behind > end:
                break
            call, arguments = unpack(data[begin + 4 : behind])
            answer = pack((call, model(**arguments)))
            answers.append(pack_size(len(answer)) + answer)
            begin = behind
        rest = data[begin:]
        send(b"".join(answers))


def main():
    models, method = sys.argv[1:]
    sys.path.insert(0, models)
    from bench_model import Model

    serve(socket.socket(fileno=0), getattr(Model(), method))


main()
