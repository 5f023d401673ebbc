"""A small mail server that offers only what it is told to, and is strict about it."""

from __future__ import annotations

import socketserver
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mail on loopback; bytes beyond ASCII only with the extensions for them."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, *extensions: str, refused: tuple[str, ...] = (), code: int = 550) -> None:
        """Recipients in `refused` are refused with `code`."""
        super().__init__(("127.0.0.1", 0), _Session)
        self.extensions = extensions
        self.refused = refused
        self.code = code
        self.recipients: list[str] = []
        self.senders: list[str] = []
        self.messages: list[EmailMessage] = []
        self.raw: list[bytes] = []
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def stop(self) -> None:
        """End it."""
        self.shutdown()
        self.server_close()


class _Session(socketserver.StreamRequestHandler):
    server: MailServer

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())

    def handle(self) -> None:
        self._say("220 small ESMTP")
        while line := self.rfile.readline():
            command = line.decode(errors="replace").strip()
            verb = command[:4].upper()
            if verb == "EHLO":
                lines = ["small", *self.server.extensions]
                for each in lines[:-1]:
                    self._say(f"250-{each}")
                self._say(f"250 {lines[-1]}")
            elif verb == "MAIL":
                self.server.senders.append(command)
                known = "SMTPUTF8" in self.server.extensions or command.isascii()
                self._say("250 ok" if known else "553 5.6.7 not ASCII")
            elif verb == "RCPT":
                self._recipient(command.partition("<")[2].partition(">")[0])
            elif verb == "DATA":
                self._data()
            elif verb == "QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 ok")

    def _recipient(self, address: str) -> None:
        if address in self.server.refused:
            self._say(f"{self.server.code} no such mailbox")
        elif "@" not in address:
            self._say("501 5.1.3 bad address")
        else:
            self.server.recipients.append(address)
            self._say("250 ok")

    def _data(self) -> None:
        self._say("354 go on")
        data = b""
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            data += line
        if not data.isascii() and "8BITMIME" not in self.server.extensions:
            self._say("554 5.6.1 8-bit data not allowed")
            return
        self.server.raw.append(data)
        message = message_from_bytes(data, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.server.messages.append(message)
        self._say("250 ok")
