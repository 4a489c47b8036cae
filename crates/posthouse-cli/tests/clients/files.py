"""A client for files, written from PROTOCOL.md alone, with the standard library only.

usage: files.py HOST PORT put FILE [NAME] [--cut BYTES]    send FILE; --cut: stop after this many bytes of it
       files.py HOST PORT get NAME FILE                    fetch NAME; an unfinished file is kept in FILE.part
       files.py HOST PORT list
exit codes: 0 done, 1 the transfer failed, 2 wrong usage or a local file, 3 the connection or the protocol failed
"""
import collections, os, re, select, socket, struct, sys
HELLO, OFFER, ENTRY = struct.Struct("<8sHIII16sBH"), struct.Struct("<IIQqHBH"), struct.Struct("<QqHBH")
LIMIT, CHUNK, WINDOW, READ = 1 << 20, 1 << 15, 1 << 16, 1 << 18
HEADS = {5: 6, 8: 5, 9: 6, 10: 29, 11: 52, 12: 5, 13: 12, 14: 36, 15: 6, 16: 8, 17: 8, 18: 4, 19: 4, 20: 5, 21: 4}
class Blake3:                                      # many chunks at once: a big integer has a word of each in 64 bits
    IV = 0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19
    START, END, PARENT, ROOT, PIECE = 1, 2, 4, 8, 1 << 17
    PLACES = [(i, 4 + (i + k) % 4, 8 + (i + 2 * k) % 4, 12 + (i + 3 * k) % 4) for k in (0, 1) for i in range(4)]
    def __init__(self): self.nodes, self.rest = [], bytearray()     # of each whole piece; what may be the last one
    def update(self, data):
        self.rest += data
        while len(self.rest) > self.PIECE:
            self.nodes.append(self.piece(self.rest[:self.PIECE], 0))
            del self.rest[:self.PIECE]
    def digest(self):
        last = self.piece(self.rest, 0 if self.nodes else self.ROOT)
        return struct.pack("<8I", *self.join(self.nodes + [last], self.ROOT))
    def piece(self, data, root):                   # the node above all chunks of a piece
        chunks = [data[at:at + 1024] for at in range(0, len(data), 1024)] or [b""]
        nodes, first = [self.IV] * len(chunks), len(self.nodes) * self.PIECE // 1024
        for at in range(0, 1024, 64):
            blocks = [chunk[at:at + 64] for chunk in chunks if at < len(chunk) or at == 0]
            ends = [(self.END | root * (len(chunks) == 1)) * (at + 64 >= len(chunk)) for chunk in chunks]
            words = [struct.unpack("<16I", block.ljust(64, b"\0")) for block in blocks]
            heads = [(first + i, 0, len(block), ends[i] | self.START * (at == 0)) for i, block in enumerate(blocks)]
            if blocks: nodes[:len(blocks)] = self.compress(nodes[:len(blocks)], words, heads)
        return self.join(nodes, root)
    def join(self, nodes, root):                   # pairs, level by level; one left over goes up as it is
        while len(nodes) > 1:
            pairs, head = list(zip(nodes[::2], nodes[1::2])), (0, 0, 64, self.PARENT | root * (len(nodes) == 2))
            joined = self.compress([self.IV] * len(pairs), [left + right for left, right in pairs], [head] * len(pairs))
            nodes = joined + nodes[2 * len(pairs):]
        return nodes[0]
    def compress(self, nodes, words, heads):
        lanes = struct.Struct("<%dQ" % len(nodes))
        pack = lambda rows: [int.from_bytes(lanes.pack(*column), "little") for column in zip(*rows)]
        v, m = pack(nodes) + pack([self.IV[:4]] * len(nodes)) + pack(heads), pack(words)
        mask, = pack([[0xFFFFFFFF]] * len(nodes))
        for _ in range(7):
            for (a, b, c, d), *both in zip(self.PLACES, m[::2], m[1::2]):
                for word, right, left in zip(both, (16, 8), (12, 7)):
                    v[a] = v[a] + v[b] + word & mask
                    v[d] ^= v[a]; v[d] = (v[d] >> right | v[d] << 32 - right) & mask
                    v[c] = v[c] + v[d] & mask
                    v[b] ^= v[c]; v[b] = (v[b] >> left | v[b] << 32 - left) & mask
            m = [m[i] for i in (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)]
        return list(zip(*(lanes.unpack((v[i] ^ v[i + 8]).to_bytes(lanes.size, "little")) for i in range(8))))
try: from blake3 import blake3                     # a hundred times faster, where it is installed
except ImportError: blake3 = Blake3
HIDDEN = re.compile("[\0-\x1f\x7f-\x9f<>:\"|?*\\\\\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
DEVICE = re.compile("(con|prn|aux|nul|conin[$]|conout[$]|(com|lpt)[0-9\xb9\xb2\xb3]) *([.].*)?", re.I | re.A)
def is_name(name):
    parts = name.split("/")
    if len(name.encode()) > 1024 or len(parts) > 32 or parts[0].lower() == ".posthouse" or HIDDEN.search(name): return False
    sound = lambda part: part and part.strip(" ").rstrip(".") == part and len(part.encode()) < 256
    return all(sound(part) and not DEVICE.fullmatch(part) for part in parts)
def fail(code, text): print(text, file=sys.stderr); raise SystemExit(code)
def said(payload): return "%d: %s" % (struct.unpack("<H", payload[:2])[0], ascii(payload[2:514].decode("utf-8", "replace")))
class Peer:
    def __init__(self, host, port):
        self.sock, self.buffer, self.early = socket.create_connection((host, port), 60), bytearray(), collections.deque()
        self.id, self.agreed, kind, answer = 1, False, None, b""
        self.send(4, HELLO.pack(b"POSTHOUS", 1, 1, LIMIT, 0, os.urandom(16), 0, 0))
        while not (kind == 4 and len(answer) > 40 and answer[:8] == b"POSTHOUS" and answer[38] & 0x80):
            kind, answer = self.read()
        (_, version, features, self.largest, _, _, flags, _), self.agreed = HELLO.unpack(answer[:41]), True
        self.expect(version == 1, 4, "version %d" % version)
        self.expect(not flags & 1, 5, "the server wants a proof")
        if not features & 1: fail(3, "the server transfers no files")
    def send(self, kind, payload): self.sock.sendall(struct.pack("<IB", 1 + len(payload), kind) + payload)
    def expect(self, right, code, text):           # ends otherwise, with a bye if one may be sent
        if right: return
        if self.agreed: self.send(5, struct.pack("<HI", code, 0) + text.encode())
        fail(3, "refused: " + text)
    def leave(self):                               # says bye, and waits until the peer has read everything
        self.send(5, struct.pack("<HI", 0, 0))
        self.sock.shutdown(socket.SHUT_WR)
        while self.sock.recv(1 << 16): pass
    def abort(self, code, text, id=None):          # of another id than this transfer's: goes on
        self.send(15, struct.pack("<IH", id or self.id, code) + text.encode())
        if not id: self.leave(); fail(1, "given up: " + text)
    def read(self, wait=True):                     # the next frame of this transfer; None: nothing is there yet
        while wait or self.buffer or select.select([self.sock], [], [], 0)[0]:
            length = int.from_bytes(self.buffer[:3], "little")
            self.expect(len(self.buffer) < 4 or length and not self.buffer[3], 3, "bad frame head")
            self.expect(length - 1 <= LIMIT, 2, "frame too large")
            if len(self.buffer) < 4 + (length or 1):
                if not (more := self.sock.recv(1 << 16)): fail(3, "the connection ended")
                self.buffer += more
                continue
            kind, payload = self.buffer[4], bytes(self.buffer[5:4 + length])
            del self.buffer[:4 + length]
            if not self.agreed and kind == 4: return kind, payload
            if not self.agreed or not 3 < kind < 32: continue       # a message of the application's
            self.expect(kind not in (4, 6, 7), 3, "kind %d out of state" % kind)
            self.expect(len(payload) >= HEADS.get(kind, 0), 3, "kind %d of %d bytes" % (kind, len(payload)))
            if kind == 5: fail(3, "bye " + said(payload[:2] + payload[6:]))
            id, answers = int.from_bytes(payload[:4], "little"), int.from_bytes(payload[4:8], "little")
            if kind == 16: self.send(17, payload)
            elif kind == 8: self.send(9, payload[:4] + b"\1\0nothing is answered here")
            elif kind in (18, 19) or kind == 10 and self.id not in (id, answers): self.abort(1, "not here", id)
            elif kind == 10 or kind in (11, 12, 13, 14, 15, 20) and id == self.id: return kind, payload
    def hear(self, *kinds, wait=True):             # the next frame, which must have one of these kinds
        frame = self.early.popleft() if self.early else self.read(wait)
        if frame and frame[0] == 15: self.leave(); fail(1, "the other side gives up: " + said(frame[1][4:]))
        self.expect(not frame or frame[0] != 10 or 10 in kinds, 3, "an offer out of turn")
        if frame and frame[0] not in kinds: self.abort(11, "kind %d out of turn" % frame[0])
        return frame
    def hash(self, file, end):                     # of what comes before; what is said meanwhile waits
        hasher = blake3()
        file.seek(0)
        while file.tell() < end:
            if not (data := file.read(min(READ, end - file.tell()))): self.abort(9, "it became shorter")
            hasher.update(data)
            if frame := self.read(False): self.early.append(frame)
        return hasher
def put(peer, path, name, cut):
    with open(path, "rb") as file:
        before, sent = os.fstat(file.fileno()), 0
        size, modified, mode, delivery = before.st_size, before.st_mtime_ns, before.st_mode & 0o777, os.urandom(16)
        for again in (False, True):
            peer.send(10, OFFER.pack(peer.id, 0, size, modified, mode, 0, 19) + b"\1\x10\0" + delivery + name.encode())
            offset, limit, prefix = struct.unpack("<QQ32s", peer.hear(11)[1][4:52])
            if offset > size or limit < offset: peer.abort(11, "accepted from %d up to %d" % (offset, limit))
            hasher = peer.hash(file, offset)
            if offset == 0 or hasher.digest() == prefix: break
            if again: peer.abort(3, "what is there is not its beginning")
        while (at := offset + sent) < size:
            if frame := peer.hear(13, wait=at >= limit): limit = max(limit, int.from_bytes(frame[1][4:12], "little"))
            elif sent == cut: peer.sock.close(); fail(3, "cut after %d bytes" % sent)
            else:
                data = file.read(min(CHUNK, peer.largest - 4, limit - at, size - at, CHUNK if cut is None else cut - sent))
                if not data: peer.abort(9, "it became shorter")
                peer.send(12, struct.pack("<I", peer.id) + data)
                hasher.update(data)
                sent += len(data)
        after = os.fstat(file.fileno())
        if (after.st_size, after.st_mtime_ns) != (size, before.st_mtime_ns): peer.abort(9, "it changed meanwhile")
        peer.send(14, struct.pack("<I32s", peer.id, hasher.digest()))
        done = peer.hear(14)[1]
        if done[4:36] != hasher.digest(): peer.abort(11, "confirmed with another hash")
        if done[36:52] != delivery: peer.abort(11, "confirmed another delivery")
    print("sent %d bytes from %d on" % (sent, offset))
def get(peer, name, path):
    peer.send(18, struct.pack("<I", peer.id) + name.encode())
    peer.id, _, size, modified, mode, flags, attributes = OFFER.unpack((offer := peer.hear(10)[1])[:29])
    delivery, block, told = b"", offer[29:29 + attributes], 0
    while told < len(block):                       # type, length, value
        type, length = struct.unpack("<BH", block[told:told + 3].ljust(3, b"\0"))
        peer.expect(told + 3 + length <= len(block), 3, "an attribute is cut short")
        if type == 1: delivery = block[told + 3:told + 3 + length]
        elif type & 0x80: peer.abort(20, "the attribute %d is not known here" % type)
        told += 3 + length
    if flags & 2: peer.abort(1, "a directory, not a file")
    is_there, part = os.path.exists(path), path + ".part"
    with open(path, "rb") if is_there else open(part, "a+b") as file:
        held = file.seek(0, 2)
        if is_there and held != size: peer.abort(2, "it has %d bytes here" % held)
        if held > size: held = file.truncate(0)
        while True:
            hasher, at, limit = peer.hash(file, held), held, min(size, held + WINDOW)
            peer.send(11, struct.pack("<IQQ32s", peer.id, held, limit, hasher.digest()))
            while (frame := peer.hear(12, 14, *[10] * (at == held > 0)))[0] == 12:
                at += len(frame[1]) - 4
                if at > limit: peer.abort(11, "more than was allowed")
                hasher.update(frame[1][4:])
                file.write(frame[1][4:])
                if limit < size and limit - at < WINDOW // 2:
                    limit = min(size, at + WINDOW)
                    peer.send(13, struct.pack("<IQ", peer.id, limit))
            if frame[0] == 14: break
            if is_there: peer.abort(2, "it has other content here")
            held = file.truncate(0)                # what was held is another file's
        if at < size: peer.abort(11, "done after %d of %d bytes" % (at, size))
        if frame[1][4:36] != hasher.digest():
            if not is_there: os.remove(part)
            peer.abort(4, "the hashes differ")
        file.flush()
        if not is_there: os.fsync(file.fileno())
    if not is_there:
        if modified > -2**63: os.utime(part, ns=(modified,) * 2)
        if mode != 0xffff and mode & 0o100: os.chmod(part, 0o700)
        try: os.link(part, path)                   # unlike a rename it replaces nothing
        except FileExistsError: peer.abort(2, "somebody was quicker here")
        os.remove(part)
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    peer.send(14, struct.pack("<I32s", peer.id, hasher.digest()) + delivery)
    print("received %d bytes from %d on" % (at - held, held))
def list_all(peer):
    more, last = True, b""
    while more:
        peer.send(19, struct.pack("<I", peer.id) + last)
        payload, before = peer.hear(20)[1], last
        more, rest, peer.id = payload[4] & 1, payload[5:], peer.id + 2
        while rest:
            size, modified, mode, flags, length = ENTRY.unpack(rest[:21].ljust(21, b"\0"))
            peer.expect(len(rest) >= 21 + length, 3, "an entry is cut short")
            last, rest = rest[21:21 + length], rest[21 + length:]
            name = last.decode("utf-8", "replace")
            if is_name(name) and not flags & 2:
                print(size, "-" if modified == -2**63 else modified, "-x"[mode != 0xffff and mode >> 6 & 1], name)
        if more and last <= before: fail(3, "the list does not go on")
def main(arguments, cut=None):
    if "--cut" in arguments[:-1]: cut = int(arguments.pop(arguments.index("--cut") + 1)); arguments.remove("--cut")
    match arguments:
        case [host, port, "put", path]: work = lambda peer: put(peer, path, os.path.basename(path), cut)
        case [host, port, "put", path, name]: work = lambda peer: put(peer, path, name, cut)
        case [host, port, "get", name, path]: work = lambda peer: get(peer, name, path)
        case [host, port, "list"]: work = list_all
        case _: fail(2, __doc__)
    try:
        peer = Peer(host, port)
        work(peer)
        peer.leave()
    except (ConnectionError, socket.gaierror, TimeoutError) as error: fail(3, "the connection broke: %s" % error)
    except OSError as error: fail(2, str(error))
if __name__ == "__main__": main(sys.argv[1:])
