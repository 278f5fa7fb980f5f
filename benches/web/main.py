"""Uploads and downloads through a browser, each tool in turn, and the tables of what they took."""

import filecmp
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import measure
from browser import Browser
from servers import ADDRESS, HaulNative, installed

SMOKE = os.environ.get("WEB_SMOKE") == "1"
ROWS = os.environ.get("WEB_ROWS", "upload download first-byte").split()
TOOLS = os.environ.get("WEB_TOOLS", "haul copyparty dufs").split()
RUNS = int(os.environ.get("WEB_RUNS", "1" if SMOKE else "3"))
LIMIT = int(os.environ.get("WEB_LIMIT", "10" if SMOKE else "120"))
FOLDER = os.environ.get("WEB_FOLDER", "target/web")
NAME = "film.bin"
# What travels before the first byte of a file, of any tool: its page, and calls of some hundred bytes.
BEGUN = 1 << 20


def size(text):
    factor = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper(), 0)
    return int(text[:-1] if factor else text) << factor


FILE = size(os.environ.get("WEB_FILE", "8M" if SMOKE else "1G"))
SPARSE = size(os.environ.get("WEB_SPARSE", "64M" if SMOKE else "10G"))


def main():
    up = [["ip", "link", "set", "lo", "up"], ["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"]]
    for command in up:
        subprocess.run(command, check=True)
    os.makedirs(FOLDER, exist_ok=True)
    servers, absent = installed(TOOLS)
    print("## Through a browser\n")
    kernel = f"{platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}"
    print(f"{kernel}, {RUNS} run(s) in turn, a fresh profile for each.\n")
    print(f"* {subprocess.run(['chromium', '--version'], capture_output=True, text=True, check=False).stdout.strip()}")
    for server in servers:
        print(f"* {server.name}: {server.version()} ({server.says})")
    for name in absent:
        print(f"* {name} is not installed here: no row")
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        folder = os.path.realpath(folder)
        source = os.path.join(folder, "offered", NAME)
        os.mkdir(os.path.dirname(source))
        noise(source, FILE)
        for row in ROWS:
            {"upload": upload, "download": download, "first-byte": first_byte}[row](servers, folder, source)
    if SMOKE:
        print("\nThis was a smoke run: its sizes are too small for any of the numbers to mean something.")


def upload(servers, folder, source):
    def one(server, browser, into):
        pick = server.give(browser, source)
        began = time.monotonic()
        pick()
        arrived = os.path.join(into, NAME)
        wait_until(lambda: os.path.exists(arrived) and os.path.getsize(arrived) == FILE, 600)
        return time.monotonic() - began, arrived

    race(f"Upload of {FILE >> 20} MiB", [each for each in servers if not isinstance(each, HaulNative)], folder, source, None, one)


def download(servers, folder, source):
    def one(server, browser, into):
        press = server.take(browser, NAME)
        began = time.monotonic()
        press()
        browser.wait_for_download()
        return time.monotonic() - began, os.path.join(into, "downloads", NAME)

    race(f"Download of {FILE >> 20} MiB", servers, folder, source, source, one)


def race(title, servers, folder, source, offered, one):
    """Has each server move the file as often as there are runs, in turn, and prints what it took."""
    taken = {server.name: [] for server in servers}
    for run in range(RUNS):
        for turn in range(len(servers)):
            server = servers[(run + turn) % len(servers)]
            with Scene(server, folder, offered) as scene:
                seconds, arrived = one(server, scene.browser, scene.into)
                if not filecmp.cmp(source, arrived, shallow=False):
                    sys.exit(f"{server.name}: what arrived differs")
                peak = scene.browser.largest_peak()
            taken[server.name].append((seconds, scene.spent, peak))
            print(f"  {title} {run + 1}/{RUNS} {server.name}: {seconds:.2f} s", file=sys.stderr)
    print(f"\n### {title}\n\n| tool | median s | MB/s | CPU of the server, ns/byte | largest browser process, MiB |")
    print("|---|---|---|---|---|")
    for name, runs in taken.items():
        seconds, spent, peak = (statistics.median(values) for values in zip(*runs))
        print(f"| {name} | {seconds:.2f} | {FILE / seconds / 1e6:.0f} | {spent * 1e9 / FILE:.2f} | {peak >> 20} |")


def first_byte(servers, folder, _source):
    """How long a file that was picked takes until its bytes travel."""
    sparse = os.path.join(folder, "sparse.bin")
    with open(sparse, "wb") as file:
        # Other bytes in each MiB would take as long to make as to send; the first are what counts here.
        file.write(os.urandom(16 << 20))
        file.truncate(SPARSE)
    print(f"\n### First MiB of an upload of {SPARSE >> 30} GiB\n\n| tool | seconds after the file was picked |\n|---|---|")
    for server in servers:
        if isinstance(server, HaulNative):
            continue
        with Scene(server, folder, None) as scene:
            pick = server.give(scene.browser, sparse)
            before, began = travelled(), time.monotonic()
            pick()
            try:
                wait_until(lambda: travelled() - before > BEGUN, LIMIT)
                print(f"| {server.name} | {time.monotonic() - began:.2f} |")
            except TimeoutError:
                print(f"| {server.name} | more than {LIMIT} |")


class Scene:
    """A server and a browser, with folders of their own."""

    def __init__(self, server, folder, offered):
        self.server, self.spent = server, 0
        self.home = tempfile.mkdtemp(dir=folder)
        self.into, state, profile = (os.path.join(self.home, name) for name in ("into", "state", "profile"))
        for made in (self.into, state, profile, os.path.join(self.into, "downloads")):
            os.mkdir(made)
        self.process = server.start(self.into, state, offered)
        self.browser = Browser(profile, os.path.join(self.into, "downloads"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.browser.end()
        self.spent = self.server.stop(self.process)
        shutil.rmtree(self.home, ignore_errors=True)


def travelled():
    """Bytes that the namespace's one device has carried."""
    with open("/proc/net/dev", encoding="ascii") as devices:
        return next(int(line.split()[1]) for line in devices if line.strip().startswith("lo:"))


def wait_until(is_so, seconds):
    ends = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > ends:
            raise TimeoutError
        time.sleep(0.01)


def noise(path, length):
    with open(path, "wb") as file:
        while length:
            length -= file.write(os.urandom(min(length, 4 << 20)))


if __name__ == "__main__":
    try:
        main()
    finally:
        measure.kill_all()
