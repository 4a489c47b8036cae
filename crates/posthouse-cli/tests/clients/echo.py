"""A client written from PROTOCOL.md alone, with the standard library only.

usage: echo.py HOST PORT COUNT [--hello] [--key FILE]
"""
import hashlib, hmac, os, socket, struct, sys
HELLO, LIMIT, WINDOW, HEARTBEAT = struct.Struct("<8sHIII16sBH"), 1 << 20, 16, 1000
PLAIN, ANSWERED, AGREED = range(3)             # PLAIN: also while the answer to hello is awaited
class Peer:
    def __init__(self, host, port):
        self.sock, self.state = socket.create_connection((host, port), 30), PLAIN
        self.file = self.sock.makefile("rb")
    def send(self, kind, payload):
        self.sock.sendall(struct.pack("<IB", 1 + len(payload), kind) + payload)
    def expect(self, right, code, text):       # ends otherwise, with a bye if one may be sent
        if not right and self.state != PLAIN: self.send(5, struct.pack("<HI", code, 0) + text.encode())
        return right or sys.exit("refused: " + text)
    def receive(self):                         # the next (kind, payload) that is not housekeeping; None at the end
        while head := self.file.read(4):
            length = int.from_bytes(head[:3], "little")
            self.expect(length and head[3:] == b"\0", 3, "bad frame head")
            self.expect(length - 1 <= LIMIT, 2, "frame too large")
            frame = self.file.read(length)
            self.expect(len(frame) == length, 3, "the stream ends inside a frame")
            kind, payload = frame[0], frame[1:]
            if self.state == PLAIN or kind < 4 or kind > 31 or kind == (7 if self.state == ANSWERED else 9): return kind, payload
            if kind == 5 and length > 6: sys.exit("bye %d, retry after %d ms: " % struct.unpack("<HI", payload[:6]) + ascii(payload[6:518].decode("utf-8", "replace")))
            self.expect(self.state == AGREED and (kind == 8 or kind > 17 or kind > 15 and length == 9), 3, "kind %d of %d bytes" % (kind, length))
            if kind == 16: self.send(17, payload)
    def hello(self, key):                      # gives the largest payload that the server takes
        mine = HELLO.pack(b"POSTHOUS", 1, 0, LIMIT, HEARTBEAT, os.urandom(16), 0, 0)
        self.send(4, mine)
        kind, answer = self.receive() or sys.exit("closed without an answer")
        self.expect(kind == 4 and len(answer) > 40 and answer[:8] == b"POSTHOUS" and answer[38] & 0x80, 3, "no answer to hello")
        (_, version, _, largest, _, _, flags, _), self.state = HELLO.unpack(answer[:41]), ANSWERED
        self.expect(version == 1, 4, "version %d" % version)
        self.expect(bool(flags & 1) == bool(key), 5, "only one side has a key")
        if key:
            seen = hashlib.sha256(b"".join(struct.pack("<IB", 1 + len(it), 4) + it for it in (mine, answer))).digest()
            self.send(6, hmac.digest(key, b"posthouse prove 2" + seen, "sha256"))
            kind, proof = self.receive() or sys.exit("closed without a welcome")
            right = hmac.compare_digest(proof, hmac.digest(key, b"posthouse welcome 2" + seen, "sha256"))
            self.expect(kind == 7 and right, 5 if kind == 7 else 3, "kind %d is no right welcome" % kind)
        self.state = AGREED
        return largest
def message(i, hello, largest):                # once hello is agreed, kinds 4 to 31 are not the application's
    kind = i * 5 % (228 if hello else 256)
    return kind + 28 if hello and kind > 3 else kind, (struct.pack("<I", i * 2654435761 % 2**32) * 1001)[:min(i * 37 % 4001, largest)]
def main(host, port, count, *options):
    peer, count, echoed, replied, hello = Peer(host, int(port)), int(count), 0, not options, bool(options)
    largest = peer.hello(open(options[options.index("--key") + 1], "rb").read() if "--key" in options else None) if hello else LIMIT
    for i in range(min(count, WINDOW)): peer.send(*message(i, hello, largest))
    if hello: peer.send(8, struct.pack("<IB", 7, 33) + b"how far?")
    while echoed < count or not replied:
        kind, payload = peer.receive() or sys.exit("closed after %d echoes" % echoed)
        if hello and kind == 9:
            replied = peer.expect(not replied and payload[:5] + payload[6:] == struct.pack("<IB", 7, 0) + b"how far?", 3, "reply %r" % payload)
        elif peer.expect(echoed < count and (kind, payload) == message(echoed, hello, largest), 3, "message %d came back wrong" % echoed):
            echoed += 1
            if echoed + WINDOW <= count: peer.send(*message(echoed + WINDOW - 1, hello, largest))
    if hello: peer.send(5, struct.pack("<HI", 0, 0))
    peer.state = PLAIN                         # after a bye all is ignored that still comes
    peer.sock.shutdown(socket.SHUT_WR)
    while peer.receive(): peer.expect(hello, 3, "more came back than was sent")
    print("%d echoed" % count + ", request ok" * hello)
main(*sys.argv[1:])
