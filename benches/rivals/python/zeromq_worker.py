"""Serves a model on a ZeroMQ socket: argv is the models' folder, the method, the endpoint,
and whether `one` peer connects to it or `many`."""

import sys

import msgpack
import zmq


def main():
    models, method, endpoint, peers = sys.argv[1:]
    sys.path.insert(0, models)
    from bench_model import Model

    model = getattr(Model(), method)
    # Without several peers to tell apart, a message has no frame with its sender.
    socket = zmq.Context().socket(zmq.DEALER if peers == "one" else zmq.ROUTER)
    socket.bind(endpoint)
    print("ready", flush=True)

    receive, send = socket.recv, socket.send
    unpack, pack = msgpack.unpackb, msgpack.packb
    if peers == "one":
        while True:
            call, arguments = unpack(receive())
            send(pack((call, model(**arguments))))
    while True:
        sender = receive()
        call, arguments = unpack(receive())
        send(sender, zmq.SNDMORE)
        send(pack((call, model(**arguments))))



main()
