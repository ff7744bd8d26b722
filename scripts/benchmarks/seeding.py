"""Seed a file to whoever asks, with a tracker that knows nobody else.

    /usr/bin/python3 seeding.py FILE TORRENT HOST

Writes the torrent, says "begun", and ends when its input does. Runs with the system's Python, which
has Debian's python3-libtorrent; everything stays on the addresses of HOST.
"""

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import libtorrent

PIECE_BYTES = 1024 * 1024
SEED_PORT = 6999


class _Tracker(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        host = socket.inet_aton(self.server.server_address[0])
        peer = host + SEED_PORT.to_bytes(2, "big")
        answer = b"d8:intervali60e5:peers6:" + peer + b"e"
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main(file: str, torrent: str, host: str) -> None:
    """Seed until the input ends."""
    tracker = HTTPServer((host, 0), _Tracker)
    threading.Thread(target=tracker.serve_forever, daemon=True).start()
    storage = libtorrent.file_storage()
    libtorrent.add_files(storage, file)
    made = libtorrent.create_torrent(storage, PIECE_BYTES)
    made.add_tracker(f"http://{host}:{tracker.server_port}/announce")
    libtorrent.set_piece_hashes(made, str(Path(file).parent))
    Path(torrent).write_bytes(libtorrent.bencode(made.generate()))
    session = libtorrent.session(
        {
            "listen_interfaces": f"{host}:{SEED_PORT}",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
        }
    )
    session.add_torrent(
        {
            "ti": libtorrent.torrent_info(torrent),
            "save_path": str(Path(file).parent),
            "flags": libtorrent.torrent_flags.seed_mode,
        }
    )
    print("begun", flush=True)
    sys.stdin.read()
    tracker.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
