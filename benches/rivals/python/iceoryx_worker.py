"""Serves a model through iceoryx2: argv is the models' folder, the method, iceoryx2's root folder
and prefix, the worker's index, the number of submitters, and how to wait: `blocking`, or for so many looks
without a request before the CPU is left to others."""

import ctypes
import os
import struct
import sys

import iceoryx2

TEXT = 16
END = 2**64 - 1


class Request(ctypes.Structure):
    """src/iceoryx/parcel.rs has the same."""

    _fields_ = [
        ("call", ctypes.c_uint64),
        ("submitter", ctypes.c_uint64),
        ("number", ctypes.c_int64),
        ("floats", ctypes.c_double * 3),
        ("lengths", ctypes.c_uint32 * 2),
        ("texts", (ctypes.c_uint8 * TEXT) * 2),
    ]

    @staticmethod
    def type_name():
        return "Request"


class Response(ctypes.Structure):
    """As Request."""

    _fields_ = [
        ("call", ctypes.c_uint64),
        ("worker", ctypes.c_uint64),
        ("value", ctypes.c_int64),
        ("length", ctypes.c_uint64),
        ("text", ctypes.c_uint8 * TEXT),
    ]

    @staticmethod
    def type_name():
        return "Response"


# A structure's fields, all at once: faster than one by one.
read_noop = struct.Struct("=QQq").unpack_from
read_big_model = struct.Struct("=QQq3d2I16s16s").unpack_from
write = struct.Struct("=QQqQ16s").pack_into


def call_noop(model, number):
    return model(number=number), b""


def call_big_model(model, number, x, y, z, first_length, second_length, first, second):
    value, text = model(
        float_features=[x, y, z],
        str_features=[first[:first_length].decode(), second[:second_length].decode()],
        int_feature=number,
    )
    return value, text.encode()


class Views(dict):
    """The memory at an address: there are few, and they come again and again."""

    def __init__(self, structure):
        self.bytes = ctypes.c_uint8 * ctypes.sizeof(structure)

    def __missing__(self, address):
        view = self[address] = memoryview(self.bytes.from_address(address)).cast("B")
        return view


def answers(read, call_model, model, worker, receive, publishers):
    """Answers one request each time, and yields to whom; None when there is none."""
    requests, responses = Views(Request), Views(Response)
    while True:
        sample = receive()
        if sample is None:
            yield None
            continue
        call, submitter, *fields = read(requests[sample.payload_ptr])
        if submitter == END:
            return
        value, text = call_model(model, *fields)
        # The host may use its place again.
        del sample
        response = publishers[submitter].loan_uninit()
        write(responses[response.payload_ptr], 0, call, worker, value, len(text), text)
        response.assume_init().send()
        yield submitter


def main():
    models, method, root, prefix, worker, submitters, wait = sys.argv[1:]
    worker, submitters = int(worker), int(submitters)
    sys.path.insert(0, models)
    from bench_model import Model

    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    config = iceoryx2.config.default()
    config.global_cfg.root_path = iceoryx2.Path.new(root)
    config.global_cfg.prefix = iceoryx2.FileName.new(prefix)
    node = (
        iceoryx2.NodeBuilder.new()
        .config(config)
        .signal_handling_mode(iceoryx2.SignalHandlingMode.Disabled)
        .create(iceoryx2.ServiceType.Ipc)
    )

    def builder(name):
        return node.service_builder(iceoryx2.ServiceName.new(name))

    own = "to-worker-%d" % worker
    subscriber = builder(own).publish_subscribe(Request).open().subscriber_builder().create()
    listener = builder(own).event().open().listener_builder().create()
    names = ["to-submitter-%d" % submitter for submitter in range(submitters)]
    publishers = [
        builder(name).publish_subscribe(Response).open().publisher_builder().create()
        for name in names
    ]
    notifiers = [builder(name).event().open().notifier_builder().create() for name in names]
    print("ready", flush=True)

    read, call_model = {
        "noop": (read_noop, call_noop),
        "big_model": (read_big_model, call_big_model),
    }[method]
    model = getattr(Model(), method)
    answered = answers(read, call_model, model, worker, subscriber.receive, publishers)
    if wait == "blocking":
        # Not for ever: src/iceoryx/submitter.rs says why.
        nap = iceoryx2.Duration.from_millis(10)
        for submitter in answered:
            if submitter is None:
                listener.timed_wait(nap)
            else:
                notifiers[submitter].notify()
        return
    looks, looks_at_most = 0, int(wait)
    for submitter in answered:
        if submitter is not None:
            looks = 0
        elif looks < looks_at_most:
            looks += 1
        else:
            os.sched_yield()



main()
