"""Rows and tables of repeated sends. Started by `run`, which says what can be set."""

import json
import os
import platform
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from measure import PeakAnonymous, finish, kill_all, start
from tree import change, make

SMOKE = bool(os.environ.get("DELTA_SMOKE"))
HAUL = os.environ["DELTA_HAUL"]
FOLDER = os.path.abspath(os.environ.get("DELTA_FOLDER", "."))
ROWS = os.environ.get("DELTA_ROWS", "rewritten inserted tree").split()
FILES = int(os.environ.get("DELTA_FILES", "1500" if SMOKE else "50000"))
CHANGES = 200
KIB, MIB = 1 << 10, 1 << 20
# What a write to a file system of a virtual machine touches.
BLOCK = 4 * KIB
# Blocks that are rewritten together.
RUN = 256

# What must be reached at full size.
CHUNKS_SHARE = 1.1
INSERTED_SHARE = 0.05
ANONYMOUS_BYTES = 64 << 20


def size(name, full, smoke):
    text = os.environ.get(name, smoke if SMOKE else full).upper()
    unit = {"K": KIB, "M": MIB, "G": 1 << 30}.get(text[-1])
    return int(text[:-1]) * unit if unit else int(text)


IMAGE = size("DELTA_IMAGE", "8G", "64M")


class Failed(Exception):
    """A transfer did not come to its end, or not to the right one."""


class Bench:
    """Folders of one run of the script, and the bars that were looked at."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="haul-delta-", dir=FOLDER)
        self.home = os.path.join(self.base, "home")
        self.bars = []
        self.peak = 0

    def end(self):
        shutil.rmtree(self.base, ignore_errors=True)

    def run(self):
        print(f"## What a repeated send costs\n\n{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}; both "
              f"ends on this machine, in {FOLDER}. Bytes on the wire are those of TLS in both directions, as the receiver "
              "counts them.\n")
        if "rewritten" in ROWS or "inserted" in ROWS:
            self.images()
        if "tree" in ROWS:
            self.tree()
        self.bar("peak RssAnon of either end, MiB", f"≤ {ANONYMOUS_BYTES >> 20}", f"{self.peak / MIB:.1f}",
                 self.peak <= ANONYMOUS_BYTES)
        print("\n### Bars\n\n| what | wanted | got | |\n|---|---|---|---|")
        print("\n".join(self.bars))
        if SMOKE:
            print("\nThis was a smoke run: what is small is dearer in proportion.")

    def bar(self, what, wanted, got, is_met):
        self.bars.append(f"| {what} | {wanted} | {got} | {'met' if is_met else 'MISSED'} |")

    def images(self):
        source, into = (os.path.join(self.base, name) for name in ("image", "into"))
        os.mkdir(into)
        image = os.path.join(source, "disk.img")
        os.mkdir(source)
        noise = random.Random(1)
        with open(image, "wb") as file:
            for _ in range(IMAGE // MIB):
                file.write(noise.randbytes(MIB))
        shutil.copyfile(image, os.path.join(into, "disk.img"))
        print("| image of | change | s | on the wire, MiB | fetched, MiB | reused, MiB | peak RssAnon of an end, MiB |\n"
              "|---|---|---|---|---|---|---|")
        if "rewritten" in ROWS:
            chunk = chunk_length(IMAGE)
            changed = rewrite(image)
            wire, _ = self.update(image, into, f"1 % rewritten in runs of {RUN * BLOCK // MIB} MiB")
            chunks = {at // chunk for at in changed}
            bytes_of_chunks = len(chunks) * chunk
            share = wire / bytes_of_chunks
            self.bar("rewritten: bytes on the wire, of the changed chunks", f"≤ {CHUNKS_SHARE}",
                     f"{share:.3f} of {len(chunks)} chunks of {chunk // KIB} KiB", share <= CHUNKS_SHARE)
        if "inserted" in ROWS:
            insert(image, noise.randbytes(MIB))
            wire, _ = self.update(image, into, "1 MiB at its start")
            share = wire / IMAGE
            self.bar("inserted: bytes on the wire, of the file", f"≤ {INSERTED_SHARE}", f"{share:.4f}",
                     share <= INSERTED_SHARE)
        shutil.rmtree(source)
        shutil.rmtree(into)
        print()

    def update(self, image, into, says):
        """Receives the image where its older version lies; the bytes on the wire, and the receiver's last word."""
        done, seconds = self.transfer([image], into, ["--update"])
        subprocess.run(["cmp", image, os.path.join(into, os.path.basename(image))], check=True)
        print(f"| {IMAGE // MIB} MiB | {says} | {seconds:.1f} | {done['wire_bytes'] / MIB:.2f} | "
              f"{done['bytes_fetched'] / MIB:.2f} | {done['bytes_reused'] / MIB:.2f} | {done['peak'] / MIB:.0f} |")
        return done["wire_bytes"], done

    def transfer(self, paths, into, arguments, sender_arguments=()):
        environment = {**os.environ, "XDG_STATE_HOME": f"{self.home}/state", "XDG_CACHE_HOME": f"{self.home}/cache"}
        silent = {"env": environment, "stderr": subprocess.DEVNULL}
        words = [HAUL, "send", *paths, "--bind", "127.0.0.1:0", "--quiet", "--no-announce", *sender_arguments]
        sender = start(words, stdout=subprocess.PIPE, text=True, **silent)
        offer = sender.stdout.readline().strip()
        if not offer:
            raise Failed("haul send made no offer")
        os.makedirs(self.home, exist_ok=True)
        with open(f"{self.home}/events", "w+", encoding="utf-8") as events:
            began = time.monotonic()
            words = [HAUL, "receive", offer, "--into", into, "--yes", "--json", *arguments]
            receiver = start(words, stdout=events, **silent)
            peaks = [PeakAnonymous(sender.pid), PeakAnonymous(receiver.pid)]
            code, _ = finish(receiver)
            seconds = time.monotonic() - began
            events.seek(0)
            last = json.loads(events.readlines()[-1])
        sender_code, _ = finish(sender)
        sender.stdout.close()
        if (code, sender_code) != (0, 0):
            raise Failed(f"haul receive ended with {code}, haul send with {sender_code}")
        last["peak"] = max(peak.end() for peak in peaks)
        self.peak = max(self.peak, last["peak"])
        return last, seconds

    def tree(self):
        source, haul, rsync = (os.path.join(self.base, name) for name in ("source", "by-haul", "by-rsync"))
        top = os.path.join(source, "tree")
        chance = random.Random(2)
        made = make(top, FILES, chance)
        os.mkdir(haul)
        os.mkdir(rsync)
        daemon = Daemon(self.base, rsync)
        try:
            print(f"A tree of {made}.\n")
            print("| what | haul, s | haul, wire MiB | rsync, s | rsync, wire MiB | fetched by haul, MiB |")
            print("|---|---|---|---|---|---|")
            self.round("first send", top, haul, daemon, [])
            self.round("nothing changed", top, haul, daemon, ["--update"])
            deleted = change(top, CHANGES, chance)
            ours, theirs = self.round(f"{CHANGES} changes", top, haul, daemon, ["--update"])
        finally:
            daemon.end()
        self.bar("tree: bytes on the wire beside rsync's", "reported", f"{ours / theirs:.2f} of them", True)
        found = differences(top, os.path.join(haul, "tree"))
        missing = [line for line in found if not line.startswith("*deleting")]
        extra = {line.split(None, 1)[1].rstrip("/") for line in found if line.startswith("*deleting")}
        self.bar("tree: what `rsync -nai --checksum` finds", "nothing", f"{len(missing)} differences", not missing)
        self.bar("tree: what is there and was deleted or renamed at the source", f"{len(deleted)} names",
                 f"{len(extra)} names", extra == set(deleted))
        for line in missing[:20]:
            print(line, file=sys.stderr)

    def round(self, says, top, into, daemon, arguments):
        done, seconds = self.transfer([top], into, ["--symlinks", *arguments], ["--symlinks"])
        theirs, their_seconds = daemon.take(top)
        print(f"| {says} | {seconds:.1f} | {done['wire_bytes'] / MIB:.2f} | {their_seconds:.1f} | {theirs / MIB:.2f} | "
              f"{done['bytes_fetched'] / MIB:.2f} |")
        return done["wire_bytes"], theirs


class Daemon:
    """An rsync daemon on loopback that takes a tree."""

    def __init__(self, base, into):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        path = os.path.join(base, "rsyncd.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"address = 127.0.0.1\nport = {self.port}\nuse chroot = no\n[tree]\npath = {into}\nread only = no\nmunge symlinks = no\n"
                       f"uid = {os.getuid()}\ngid = {os.getgid()}\n")
        words = ["rsync", "--daemon", "--no-detach", f"--config={path}"]
        self.process = start(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                if self.process.poll() is not None:
                    raise Failed("the rsync daemon does not start") from None

    def take(self, top):
        """Bytes in both directions, by rsync's own count, and seconds."""
        began = time.monotonic()
        words = ["rsync", "-aH", "--stats", top, f"rsync://127.0.0.1:{self.port}/tree/"]
        said = subprocess.run(words, check=True, capture_output=True, text=True, errors="replace").stdout
        counts = [int(re.search(rf"Total bytes {way}: ([\d,]+)", said)[1].replace(",", "")) for way in ("sent", "received")]
        return sum(counts), time.monotonic() - began

    def end(self):
        self.process.terminate()
        finish(self.process)


def differences(top, into):
    words = ["rsync", "-naiH", "--checksum", "--delete", f"{top}/", f"{into}/"]
    said = subprocess.run(words, check=True, capture_output=True, text=True, errors="surrogateescape").stdout
    return [line for line in said.splitlines() if line]


def chunk_length(file):
    """As `SPEC.md` says."""
    chunk = 256 * KIB
    while chunk < 16 * MIB and -(-file // chunk) > 16384:
        chunk *= 2
    return chunk


def rewrite(image):
    """Rewrites 1 % of the blocks, in runs; where the changed blocks lie."""
    chance = random.Random(3)
    run = RUN * BLOCK
    places = chance.sample(range(IMAGE // run), max(1, IMAGE // 100 // run))
    with open(image, "r+b") as file:
        for place in places:
            file.seek(place * run)
            file.write(chance.randbytes(run))
    return [place * run + block * BLOCK for place in places for block in range(RUN)]


def insert(image, bytes_before):
    """Puts bytes before all others."""
    longer = f"{image}.longer"
    with open(image, "rb") as old, open(longer, "wb") as new:
        new.write(bytes_before)
        shutil.copyfileobj(old, new, 4 * MIB)
    os.rename(longer, image)


def main():
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench()
    try:
        bench.run()
    finally:
        try:
            kill_all()
        finally:
            bench.end()


if __name__ == "__main__":
    main()
