"""A proxy that serves a server below a path, under the name ``demo.test``."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PASSED_ON = ("content-type", "content-length", "cookie", "accept")


@contextmanager
def path_proxy(port: int, root: str, keeps: bool) -> Iterator[tuple[str, list[str]]]:
    """The proxy's address, and the paths that are asked of it. It takes ``root`` away from them
    unless it ``keeps`` it; what does not begin with it is not found."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

        def do_GET(self) -> None:
            asked.append(self.path)
            if not self.path.startswith(f"{root}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() in PASSED_ON}
            headers |= {"Host": "demo.test"}
            if "Origin" in self.headers:  # as a browser says that shows the proxy's name
                headers["Origin"] = "https://demo.test"
            path = self.path if keeps else self.path.removeprefix(root)
            link.request(self.command, path, body or None, headers)
            answer = link.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in ("content-length", "date", "connection"):
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            link.close()

        do_POST = do_DELETE = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
