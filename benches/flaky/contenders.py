"""The tools: each fetches one file over the link, and is started again at once when it gives up."""

import json
import os
import shutil
import subprocess
import sys
import time

from world import SENDER, kill

HERE = os.path.dirname(os.path.abspath(__file__))


class Outcome:
    """What came of a transfer."""

    def __init__(self):
        self.finished = False
        self.seconds = 0.0
        # How the tool ended each time that it gave up.
        self.exits = []
        # What the tool has of the file.
        self.bytes = 0
        # What the tool itself says that it fetched, where it says so.
        self.fetched = None
        self.wire = None


class Contender:
    """A tool with a server, and a client that is run until it succeeds."""

    port = 8730

    def __init__(self, scratch):
        self.scratch = scratch

    def is_installed(self):
        return True

    def serve(self, world, source):
        """Starts the server; the link sees nothing of it."""
        raise NotImplementedError

    def client(self, source, into):
        """The command that fetches."""
        raise NotImplementedError

    def has(self, into, name):
        """How many bytes of the file are there."""
        path = os.path.join(into, name)
        return os.stat(path).st_blocks * 512 if os.path.exists(path) else 0

    def fetch(self, world, source, into, limit, moments):
        """Fetches within `limit` seconds. `moments` are pairs of seconds from the start and something to do then."""
        self.serve(world, source)
        outcome, length = Outcome(), os.path.getsize(source)
        began = time.monotonic()
        moments = sorted(moments, key=lambda moment: moment[0])
        running = self.start(world, source, into)
        while True:
            passed = time.monotonic() - began
            if moments and passed >= moments[0][0]:
                moments.pop(0)[1]()
            code = running.poll()
            if code == 0:
                outcome.finished = True
                break
            if passed >= limit:
                break
            if code is not None:
                outcome.exits.append(code)
                running = self.start(world, source, into)
            time.sleep(0.02)
        outcome.seconds = time.monotonic() - began
        if running.poll() is None:
            kill(running)
        outcome.bytes = length if outcome.finished else min(self.has(into, os.path.basename(source)), length)
        self.add_own_counts(outcome)
        return outcome

    def start(self, world, source, into):
        log = open(os.path.join(self.scratch, "client.log"), "ab")
        with log:
            return world.start(world.receiver, self.client(source, into), stdout=log, stderr=log)

    def add_own_counts(self, outcome):
        """Adds what the tool says about itself."""


class Haul(Contender):
    """haul, started again when it fails."""

    name = "haul"
    command = "haul receive LINK --yes --into DEST --json, from haul send FILE --keep"

    def __init__(self, scratch, binary):
        super().__init__(scratch)
        self.binary, self.link, self.events = binary, None, None

    def environment(self, end):
        home = os.path.join(self.scratch, end)
        return {**os.environ, "XDG_STATE_HOME": f"{home}/state", "XDG_CACHE_HOME": f"{home}/cache"}

    def serve(self, world, source):
        for end in ("sender", "receiver"):
            shutil.rmtree(os.path.join(self.scratch, end), ignore_errors=True)
        self.events = os.path.join(self.scratch, "events")
        open(self.events, "wb").close()
        command = [self.binary, "send", source, "--bind", f"{SENDER}:{self.port}", "--keep", "--quiet"]
        options = {"env": self.environment("sender"), "stderr": subprocess.DEVNULL}
        sender = world.start(world.sender, command, stdout=subprocess.PIPE, text=True, **options)
        self.link = sender.stdout.readline().strip()
        if not self.link:
            raise OSError("haul send made no offer")

    def start(self, world, source, into):
        command = [self.binary, "receive", self.link, "--yes", "--into", into, "--json"]
        with open(self.events, "ab") as events, open(os.path.join(self.scratch, "client.log"), "ab") as log:
            return world.start(world.receiver, command, env=self.environment("receiver"), stdout=events, stderr=log)

    def said(self):
        events = []
        with open(self.events, encoding="utf-8") as lines:
            for line in lines:
                # A process that was killed may leave half a line.
                if line.endswith("\n"):
                    events.append(json.loads(line))
        return events

    def has(self, into, name):
        # Its work file has its full length from the start; its last word counts.
        return max((event.get("bytes_done", 0) for event in self.said() if event["event"] == "progress"), default=0)

    def add_own_counts(self, outcome):
        done = [event for event in self.said() if event["event"] == "done"]
        if outcome.finished:
            outcome.fetched = sum(event["bytes_fetched"] for event in done)
            outcome.wire = sum(event["wire_bytes"] for event in done)


class Rsync(Contender):
    """rsync from an rsync daemon."""

    name = "rsync"
    command = "rsync --partial --append-verify --timeout=10 --contimeout=10 rsync://SENDER/source/FILE DEST/"

    def serve(self, world, source):
        config = os.path.join(self.scratch, "rsyncd.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"address = {SENDER}\nport = {self.port}\nuse chroot = no\nreverse lookup = no\n")
            file.write(f"uid = 0\ngid = 0\nlog file = {self.scratch}/rsyncd.log\n")
            file.write(f"[source]\npath = {os.path.dirname(source)}\n")
        world.start(world.sender, ["rsync", "--daemon", "--no-detach", f"--config={config}"])
        world.wait_for_port(world.sender, SENDER, self.port)

    def client(self, source, into):
        url = f"rsync://{SENDER}:{self.port}/source/{os.path.basename(source)}"
        return ["rsync", "--partial", "--append-verify", "--timeout=10", "--contimeout=10", url, into + "/"]


class Web(Contender):
    """A tool that fetches from a web server with ranges."""

    def serve(self, world, source):
        server = ["python3", os.path.join(HERE, "range_server.py"), SENDER, str(self.port), os.path.dirname(source)]
        world.start(world.sender, server)
        world.wait_for_port(world.sender, SENDER, self.port)

    def url(self, source):
        return f"http://{SENDER}:{self.port}/{os.path.basename(source)}"


class Curl(Web):
    """curl, which continues from the length of what it has."""

    name = "curl"
    command = "curl -C - --connect-timeout 10 --speed-limit 1 --speed-time 10 -o DEST/FILE http://SENDER/FILE"

    def client(self, source, into):
        patience = ["--connect-timeout", "10", "--speed-limit", "1", "--speed-time", "10"]
        copy = os.path.join(into, os.path.basename(source))
        return ["curl", "-sSf", "-C", "-", *patience, "-o", copy, self.url(source)]


class Aria(Web):
    """aria2c with four connections."""

    name = "aria2c"
    command = "aria2c -c -x4 -s4 -k1M --timeout=10 --connect-timeout=10 -d DEST http://SENDER/FILE"

    def is_installed(self):
        return shutil.which("aria2c") is not None

    def client(self, source, into):
        patience = ["--timeout=10", "--connect-timeout=10", "--max-tries=0", "--retry-wait=1"]
        kind = ["-c", "-x4", "-s4", "-k1M", "--file-allocation=none", "--no-conf", "-q"]
        return ["aria2c", *kind, *patience, "-d", into, self.url(source)]


class Bare(Contender):
    """One TCP connection that carries bytes until its time is over: what the link itself can do."""

    name = "bare TCP"
    command = "socket.sendall"

    SERVER = """
import socket, sys
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
while True:
    connection, _ = listener.accept()
    with connection, open(sys.argv[3], "rb") as file:
        try:
            connection.sendfile(file)
        except OSError:
            pass
"""
    CLIENT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
with open(sys.argv[3], "wb") as file:
    while part := connection.recv(1 << 16):
        file.write(part)
"""

    def serve(self, world, source):
        world.start(world.sender, ["python3", "-c", self.SERVER, SENDER, str(self.port), source])
        # A probe would be taken for the client.
        deadline = time.monotonic() + 20
        while not listens(world, self.port):
            if time.monotonic() > deadline:
                raise OSError("the bare server does not listen")
            time.sleep(0.05)

    def client(self, source, into):
        return ["python3", "-c", self.CLIENT, SENDER, str(self.port), os.path.join(into, os.path.basename(source))]


def listens(world, port):
    process = world.start(world.sender, ["cat", "/proc/self/net/tcp"], stdout=subprocess.PIPE, text=True)
    table, _ = process.communicate()
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in table.splitlines()[1:])


if __name__ == "__main__":
    sys.exit("start benches/flaky/run")
