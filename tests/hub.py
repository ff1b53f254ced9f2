"""A stand-in for a model hub, on 127.0.0.1: hub.py ROOT

Serves ROOT/OWNER/NAME/resolve/main/FILE.  As on the real one, .safetensors
files are redirected to storage (/cdn/...), which serves ranges and has an ETag
that means something else; the redirection carries the SHA-256.  What happens
to FILE's next transfers is said by the lines of FILE.faults, one each ("*" in
front: for ever): "cut N" breaks off after N bytes, "wrong" changes a byte, "norange"
ignores ranges, a number is the HTTP status.  ROOT/port is the port, once it
listens, ROOT/log has the requests, ROOT/commit what revision "main" is, ROOT/token
the token that is wanted, if any."""
import hashlib
import http.server
import os
import sys

root = sys.argv[1]


def read(name, default=""):
    try:
        with open(os.path.join(root, name)) as f:
            return f.read().strip()
    except FileNotFoundError:
        return default


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def next_fault(self, path):
        faults = read(path + ".faults").splitlines()
        if not faults:
            return []
        if not faults[0].startswith("*"):
            with open(os.path.join(root, path + ".faults"), "w") as f:
                f.write("\n".join(faults[1:]))
        return faults[0].lstrip("*").split()

    def do_GET(self):
        path = self.path.lstrip("/")
        stored = path.startswith("cdn/")
        path = path.removeprefix("cdn/")
        asked = self.headers.get("Range", "")
        with open(os.path.join(root, "log"), "a") as f:
            print(self.path, asked or "whole", file=f)
        token = read("token")
        if token and self.headers.get("Authorization") != "Bearer " + token:
            self.answer(401, {})
            return
        try:
            with open(os.path.join(root, path), "rb") as f:
                data = f.read()
        except (FileNotFoundError, NotADirectoryError):
            self.wfile.write(self.answer(404, {}, b"Entry not found"))
            return
        headers = {"X-Repo-Commit": read("commit", "c0ffee"), "ETag": '"%s"' % hashlib.sha1(data).hexdigest()}
        if path.endswith(".safetensors") and not stored:
            headers["X-Linked-ETag"] = '"%s"' % hashlib.sha256(data).hexdigest()
            self.answer(302, headers | {"Location": "/cdn/" + path})
            return
        self.serve(path, data, asked, {"ETag": '"%s"' % ("0" * 64)} if stored else headers)

    def serve(self, path, data, asked, headers):
        fault = self.next_fault(path)
        status, first = 200, 0
        if fault and fault[0].isdigit():
            self.wfile.write(self.answer(int(fault[0]), headers, b"a page that says so"))
            return
        if fault == ["wrong"]:
            data = bytes([data[0] ^ 1]) + data[1:]
        if asked and fault != ["norange"]:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(data):
                self.answer(416, headers)
                return
            status = 206
            headers["Content-Range"] = "bytes %d-%d/%d" % (first, len(data) - 1, len(data))
        body = self.answer(status, headers, data[first:])
        self.wfile.write(body[: int(fault[1])] if fault and fault[0] == "cut" else body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open(os.path.join(root, "port.new"), "w") as f:
    print(server.server_port, file=f)
os.rename(os.path.join(root, "port.new"), os.path.join(root, "port"))
server.serve_forever()
