"""Processes under measurement: their time, their CPU and their memory; and a machine made ready for a timed run."""

import os
import signal
import subprocess
import threading
import time

STARTED = []


def start(command, **options):
    """Starts a process that ends with this script at the latest."""
    options.setdefault("stdin", subprocess.DEVNULL)
    process = subprocess.Popen([str(word) for word in command], **options)
    STARTED.append(process)
    return process


def finish(process):
    """Waits for a process; returns its exit code and the CPU seconds of it and of all children that it waited for."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    STARTED.remove(process)
    return process.returncode, used.ru_utime + used.ru_stime


def tell(process, number):
    """Signals a process. `Popen` would look for its end first, and that would lose what it used."""
    os.kill(process.pid, number)


def stop(process):
    """Ends a server once its connections have ended, and returns the CPU seconds of it and of its children."""
    deadline = time.monotonic() + 10
    while has_children(process.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    tell(process, signal.SIGTERM)
    return finish(process)[1]


def kill_all():
    """Kills whatever was started and not finished."""
    for process in list(STARTED):
        tell(process, signal.SIGKILL)
        finish(process)


def has_children(pid):
    """Whether a process has a child, exited and not waited for ones included."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as stat:
                    if int(stat.read().rpartition(")")[2].split()[1]) == pid:
                        return True
            except OSError:
                pass
    return False


class PeakAnonymous:
    """The highest RssAnon of a process, sampled every 50 ms."""

    def __init__(self, pid):
        self.bytes = 0
        self.status = f"/proc/{pid}/status"
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()

    def sample(self):
        while not self.over.wait(0.05):
            try:
                with open(self.status, encoding="ascii", errors="replace") as status:
                    for line in status:
                        if line.startswith("RssAnon:"):
                            self.bytes = max(self.bytes, int(line.split()[1]) * 1024)
            except OSError:
                return

    def end(self):
        self.over.set()
        self.thread.join()
        return self.bytes


def touch_memory(size, tmpfs):
    """Has the (virtual) machine back `size` bytes of free memory, which costs far more at the first touch."""
    with open("/proc/meminfo", encoding="ascii") as meminfo:
        available = next(int(line.split()[1]) * 1024 for line in meminfo if line.startswith("MemAvailable"))
    size = max(0, min(size, available - (3 << 30)))
    block = bytes(1 << 20)
    path = os.path.join(tmpfs, f"peers-touch-{os.getpid()}")
    try:
        with open(path, "wb", buffering=0) as file:
            for _ in range(size >> 20):
                file.write(block)
    except OSError as error:
        print(f"memory was touched only in part: {error}")
    finally:
        if os.path.exists(path):
            os.remove(path)


def read_all(path):
    """Brings a file, or every file of a folder, into the page cache."""
    block = bytearray(1 << 20)
    if os.path.isdir(path):
        names = [os.path.join(folder, name) for folder, _, files in os.walk(path) for name in files]
    else:
        names = [path]
    for name in names:
        with open(name, "rb", buffering=0) as file:
            while file.readinto(block):
                pass
