"""Strangers: connections that never prove themselves, from many addresses of the loopback network, until it is killed.

    strangers.py PORT COUNT

Every other one sends a byte of a TLS record each second; the rest say nothing. One that is closed is opened again a second
later.
"""

import itertools
import selectors
import socket
import sys
import time

PORT, COUNT = int(sys.argv[1]), int(sys.argv[2])
# The start of a record that claims to be long: whoever reads it waits for the rest.
RECORD = b"\x16\x03\x01\x40\x00" + b"\x01" * 16384
# A host lets few of one address wait.
PER_ADDRESS = 8


def source(number):
    number = number // PER_ADDRESS
    return f"127.{1 + number // 250}.1.{1 + number % 250}"


def main():
    selector = selectors.DefaultSelector()
    sent = {}
    closed = list(range(COUNT))
    for turn in itertools.count():
        began = time.monotonic()
        for number in closed:
            stranger = socket.socket()
            stranger.bind((source(number), 0))
            stranger.setblocking(False)
            stranger.connect_ex(("127.0.0.1", PORT))
            selector.register(stranger, selectors.EVENT_READ, number)
            sent[number] = stranger, 0
        closed = []
        while (left := began + 1 - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                selector.unregister(key.fileobj)
                key.fileobj.close()
                del sent[key.data]
                closed.append(key.data)
        for number, (stranger, at) in list(sent.items()):
            if number % 2 == 0:
                try:
                    stranger.send(RECORD[at:at + 1])
                    sent[number] = stranger, at + 1
                except OSError:
                    # Not connected yet, or not any more: the next look sees which.
                    pass


main()
