"""A server on 127.0.0.1 for the files of a directory."""

import http.server
import threading
from contextlib import contextmanager


@contextmanager
def serve_folder(folder):
    """Serve a directory on 127.0.0.1. Yield the server."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=folder)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
