"""Two network namespaces with a bad link between them, and the processes that run in them."""

import ctypes
import fcntl
import json
import os
import signal
import struct
import subprocess
import tempfile
import time

SENDER = "10.77.0.1"
RECEIVER = "10.77.0.2"
MOVED_RECEIVER = "10.77.0.3"
DEVICE = "flaky0"

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None, use_errno=True)


class World:
    """Sender and receiver, each in a namespace, joined by a link of its own. Nothing of it outlives this process."""

    def __init__(self, link, words, congestion):
        self.processes = []
        self.namespaces = []
        # By the link's clock.
        self.moved_at = None
        self.counts = tempfile.TemporaryFile("w+b")
        try:
            self.sender, sender_device = self.namespace(SENDER, congestion)
            self.receiver, receiver_device = self.namespace(RECEIVER, congestion)
            command = [link, *(f"{name}={value}" for name, value in words.items())]
            streams = {"stdin": sender_device, "stdout": receiver_device, "stderr": self.counts}
            self.link = self.start(None, command, **streams)
            os.close(sender_device)
            os.close(receiver_device)
        except BaseException:
            self.end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def namespace(self, address, congestion):
        """A namespace with one device, and the device's descriptor."""
        home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            checked(LIBC.unshare(CLONE_NEWNET))
            try:
                namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                self.namespaces.append(namespace)
                device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
                fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
                # Packets that nobody asked for would start the link's clock.
                write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")
                write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")
                write("/proc/sys/net/ipv4/tcp_congestion_control", congestion)
            finally:
                checked(LIBC.setns(home, CLONE_NEWNET))
        finally:
            os.close(home)
        for words in ("link set lo up", f"addr add {address}/24 dev {DEVICE}", f"link set {DEVICE} up"):
            self.ip(namespace, words)
        return namespace, device

    def ip(self, namespace, words):
        process = self.start(namespace, ["ip", *words.split()])
        if process.wait() != 0:
            raise OSError(f"`ip {words}` failed")

    def move_receiver(self):
        """Gives the receiver another address, as another access point would."""
        self.moved_at = self.counted()["seconds"]
        self.ip(self.receiver, f"addr del {RECEIVER}/24 dev {DEVICE}")
        self.ip(self.receiver, f"addr add {MOVED_RECEIVER}/24 dev {DEVICE}")

    def start(self, namespace, command, **options):
        """Starts a process in a namespace; it ends with this one at the latest."""
        parent = os.getpid()

        def enter():
            checked(LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
            if os.getppid() != parent:
                os._exit(1)
            if namespace is not None:
                checked(LIBC.setns(namespace, CLONE_NEWNET))

        options.setdefault("stdin", subprocess.DEVNULL)
        # A session of its own takes the terminal's Ctrl-C to this script alone, which ends the rest.
        process = subprocess.Popen([str(word) for word in command], preexec_fn=enter, start_new_session=True, **options)
        self.processes.append(process)
        return process

    def counted(self):
        """What the link has counted."""
        text = os.pread(self.counts.fileno(), 1 << 26, 0).decode()
        lines = text[:text.rfind("\n")].splitlines()
        if self.link.poll() is not None or not lines:
            raise OSError(f"the link has ended: {text[-500:]}")
        return json.loads(lines[-1])

    def wait_for_port(self, namespace, address, port):
        """Waits until something listens, from inside its namespace: the link sees nothing of it."""
        deadline = time.monotonic() + 20
        probe = ["python3", "-c", f"import socket; socket.create_connection(('{address}', {port}), 1)"]
        while time.monotonic() < deadline:
            if self.start(namespace, probe, stderr=subprocess.DEVNULL).wait() == 0:
                return
            time.sleep(0.05)
        raise OSError(f"nothing listens on port {port}")

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                kill(process)
        for namespace in self.namespaces:
            os.close(namespace)
        self.namespaces.clear()
        self.counts.close()


def kill(process):
    """Kills a process with what it started: it leads a session."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
