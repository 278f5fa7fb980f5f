"""A web server that knows ranges, for the tools that fetch over HTTP: `range_server.py ADDRESS PORT FOLDER`."""

import os
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the files of one folder."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)

    def answer(self, with_body):
        path = os.path.join(sys.argv[3], os.path.basename(self.path))
        if not os.path.isfile(path):
            self.send_error(404)
            return
        length = os.path.getsize(path)
        first, last = 0, length - 1
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first = int(asked[1])
            last = min(int(asked[2] or last), last)
        if first > last:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{length}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{length}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        if with_body:
            self.send(path, first, last)

    def send(self, path, first, last):
        with open(path, "rb") as file:
            left = last + 1 - first
            try:
                while left:
                    sent = self.connection.sendfile(file, first, left)
                    first, left = first + sent, left - sent
            except OSError:
                self.close_connection = True

    def log_message(self, *_):
        pass


ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
