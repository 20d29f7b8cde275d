"""A viewer of the RFB protocol (RFC 6143): raw pictures, keys, the pointer. And what text a picture of a VGA shows."""
import select
import socket
import struct
import time

RAW, DESKTOP_SIZE = 0, -223
SHIFT = 0xffe1
KEYS = {"\n": 0xff0d, "\x1b": 0xff1b}
SHIFTED = '~!@#$%^&*()_+{}|:"<>?'


class Viewer:
    """Whoever sends takes what comes meanwhile: a server that has a picture to send reads nothing before it is sent."""

    def __init__(self, address, seconds):
        self.deadline, self.waiting = time.monotonic() + seconds, bytearray()
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        while True:
            self.socket = socket.socket(family, socket.SOCK_STREAM)
            try:
                self.socket.connect(address)
                self.socket.setblocking(False)
                break
            except OSError:
                self.socket.close()
                if time.monotonic() > self.deadline:
                    raise
                time.sleep(0.1)
        self.handshake()

    def turn(self, data=b""):
        """Waits until something has come, or until some of the data can be sent; what is left of it."""
        left = self.deadline - time.monotonic()
        readable, writable, _ = select.select([self.socket], [self.socket] if data else [], [], max(0, left))
        if not readable and not writable:
            raise TimeoutError("the server neither sends nor takes anything")
        if readable:
            more = self.socket.recv(1 << 20)
            if not more:
                raise EOFError("the server has closed the connection")
            self.waiting += more
        try:
            return data[self.socket.send(data):] if writable else data
        except BlockingIOError:  # less room than that
            return data

    def take(self, count):
        while len(self.waiting) < count:
            self.turn()
        data = bytes(self.waiting[:count])
        del self.waiting[:count]
        return data

    def send(self, data):
        while data:
            data = self.turn(data)

    def handshake(self):
        self.take(12)
        self.send(b"RFB 003.008\n")
        kinds = self.take(self.take(1)[0])
        if 1 not in kinds:
            raise PermissionError(f"security types {list(kinds)}")
        self.send(b"\1")
        assert self.take(4) == b"\0\0\0\0"
        self.send(b"\1")  # shared
        self.width, self.height = struct.unpack(">HH", self.take(4))
        self.take(16)
        self.name = self.take(struct.unpack(">I", self.take(4))[0]).decode()
        # 32 bits a pixel, red in the lowest byte
        self.send(struct.pack(">BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 255, 255, 255, 0, 8, 16))
        self.send(struct.pack(">BxHii", 2, 2, RAW, DESKTOP_SIZE))
        self.resize(self.width, self.height)

    def resize(self, width, height):
        self.width, self.height = width, height
        self.pixels = bytearray(4 * width * height)
        self.ask(False)

    def ask(self, incremental):
        self.send(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))

    def rectangle(self):
        x, y, width, height, encoding = struct.unpack(">HHHHi", self.take(12))
        if encoding == DESKTOP_SIZE:
            self.resize(width, height)
            return
        assert encoding == RAW, encoding
        data = self.take(4 * width * height)
        for row in range(height):
            at = 4 * ((y + row) * self.width + x)
            self.pixels[at:at + 4 * width] = data[4 * row * width:4 * (row + 1) * width]

    def update(self, seconds):
        """Takes what comes within that time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and (self.waiting or select.select([self.socket], [], [], left)[0]):
            kind = self.take(1)[0]
            if kind == 0:  # FramebufferUpdate
                count = struct.unpack(">xH", self.take(3))[0]
                for _ in range(count):
                    self.rectangle()
                self.ask(True)
            elif kind == 1:  # SetColourMapEntries
                self.take(6 * struct.unpack(">xHH", self.take(5))[1])
            elif kind == 3:  # ServerCutText
                self.take(struct.unpack(">xxxI", self.take(7))[0])

    def key(self, keysym, down):
        self.send(struct.pack(">BBxxI", 4, down, keysym))

    def type(self, text):
        for letter in text:
            shifted = letter.isupper() or letter in SHIFTED
            keysym = KEYS.get(letter, ord(letter))
            for code, down in ([(SHIFT, 1)] if shifted else []) + [(keysym, 1), (keysym, 0)] + ([(SHIFT, 0)] if shifted else []):
                self.key(code, down)

    def point(self, x, y, buttons=0):
        self.send(struct.pack(">BBHH", 5, buttons, x, y))

    def close(self):
        self.socket.close()


CELL_HEIGHT = 16


def rows(viewer):
    """The picture's rows of characters, as bytes."""
    size = 4 * CELL_HEIGHT * viewer.width
    return [bytes(viewer.pixels[top:top + size]) for top in range(0, len(viewer.pixels) - size + 1, size)]


def cells(row):
    """The cells of a row, eight by sixteen. A VGA has a column between characters."""
    width = len(row) // (4 * CELL_HEIGHT)
    for left in range(0, width - 7, 9 if width == 720 else 8):
        yield b"".join(row[4 * (y * width + left):4 * (y * width + left + 8)] for y in range(CELL_HEIGHT))


def shape(cell):
    """Ink or paper, eight by sixteen, as one number: paper is what the corner has."""
    paper = cell[:4]
    return int("".join("01"[cell[i:i + 4] != paper] for i in range(0, len(cell), 4)), 2)


class Font:
    """The 8 by 16 font of a video BIOS, found by how it draws A and B. Linux draws some letters a little differently."""

    NEAR = 16  # dots

    def __init__(self, rom):
        a_and_b = bytes.fromhex("000010386cc6c6fec6c6c6c600000000" "0000fc6666667c66666666fc00000000")
        start = rom.index(a_and_b) - 65 * 16
        self.shapes = {int.from_bytes(rom[start + code * 16:start + code * 16 + 16], "big"): chr(code) for code in range(32, 127)}
        self.known, self.lines = {}, {}  # cells and rows as they have been seen

    def read(self, cell):
        if cell not in self.known:
            dots = shape(cell)
            best = dots if dots in self.shapes else min(self.shapes, key=lambda known: bin(known ^ dots).count("1"))
            self.known[cell] = self.shapes[best] if bin(best ^ dots).count("1") <= self.NEAR else "?"
        return self.known[cell]

    def line(self, row):
        if row not in self.lines:
            self.lines[row] = "".join(map(self.read, cells(row))).rstrip()
        return self.lines[row]

    def text(self, viewer):
        """What is written there."""
        return "\n".join(map(self.line, rows(viewer)))

    def learn(self, viewer, line):
        """The first line on the screen is this one."""
        self.known.update(zip(cells(rows(viewer)[0]), line))
        self.lines.clear()
