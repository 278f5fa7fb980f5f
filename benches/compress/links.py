"""Ways between a sender and a receiver: loopback, and a link with a rate between two network namespaces."""

import os
import subprocess


class Loopback:
    """Both ends on 127.0.0.1, as fast as the machine is."""

    name = "loopback"
    says = "loopback"
    address = "127.0.0.1"

    def sender(self, command):
        return command

    def receiver(self, command):
        return command

    def end(self):
        pass


class Limited:
    """Two namespaces, joined by two virtual devices, each of which sends so many bytes a second."""

    address = "10.78.0.1"

    def __init__(self, name, megabytes):
        self.name, self.says = name, f"{megabytes} MB/s"
        self.namespaces = [f"haul-compress-{os.getpid()}-{end}" for end in "ab"]
        self.made = []
        try:
            for namespace in self.namespaces:
                ip("netns", "add", namespace)
                self.made.append(namespace)
            first, second = self.namespaces
            ip("-n", first, "link", "add", "link0", "type", "veth", "peer", "name", "link0", "netns", second)
            for number, namespace in enumerate(self.namespaces):
                ip("-n", namespace, "addr", "add", f"10.78.0.{number + 1}/24", "dev", "link0")
                ip("-n", namespace, "link", "set", "link0", "up")
                ip("-n", namespace, "link", "set", "lo", "up")
                rate = ["root", "tbf", "rate", f"{8 * megabytes}mbit", "burst", "256k", "latency", "20ms"]
                run("tc", "-n", namespace, "qdisc", "add", "dev", "link0", *rate)
        except BaseException:
            self.end()
            raise

    def sender(self, command):
        return ["ip", "netns", "exec", self.namespaces[0], *command]

    def receiver(self, command):
        return ["ip", "netns", "exec", self.namespaces[1], *command]

    def end(self):
        for namespace in self.made:
            subprocess.run(["ip", "netns", "delete", namespace], check=False)
        self.made.clear()


def ip(*words):
    run("ip", *words)


def run(*command):
    subprocess.run(command, check=True)
