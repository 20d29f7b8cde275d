"""Boot sectors of a few bytes: real-mode guests that do one thing. Assembled by hand, the source beside the bytes."""

EXIT = b"\xe6\xf4"            # out 0xf4, al
SPIN = b"\xfa\xeb\xfe"        # cli; jmp $
HALT = b"\xfa\xf4\xeb\xfd"    # cli; 1: hlt; jmp 1b
COM1 = b"\xba\xf8\x03"        # mov dx, 0x3f8


def sector(code):
    """A boot sector image, entered at 0000:7c00."""
    assert len(code) <= 510
    return code.ljust(510, b"\0") + b"\x55\xaa"


def exits_with(value):
    return sector(b"\xb0" + bytes([value]) + EXIT + HALT)  # mov al, value


def sensitive():
    """Executes 4 privileged, 3 control-sensitive and 2 behaviour-sensitive instructions, the last of them an exit by 0."""
    return sector(
        b"\xfa\xfa\xfb"              # cli; cli; sti
        b"\x9c\x9d"                  # pushf; popf
        b"\x31\xc0\x8e\xc0\x8e\xc0"  # xor ax, ax; mov es, ax; mov es, ax
        b"\x8c\xd8"                  # mov ax, ds
        b"\xb0\x00" + EXIT          # mov al, 0
    )


def say(text):
    """Writes text to COM1, without looking whether there is room."""
    return COM1 + b"".join(b"\xb0" + bytes([c]) + b"\xee" for c in text)  # mov al, c; out dx, al


def power_off():
    return b"\xba\x04\x06\xb8\x00\x20\xef"  # mov dx, 0x604 (PM1a control); mov ax, SLP_EN; out dx, ax


def reset():
    return b"\xb0\xfe\xe6\x64"  # mov al, 0xfe; out 0x64, al: the keyboard controller's reset pulse


def triple_fault():
    #   lidt [cs:limit0]; int3            an empty IDT: the breakpoint, the #GP and the #DF have no handler
    return sector(b"\x2e\x0f\x01\x1e\x20\x7c\xcc" + HALT)


def echo():
    """Sends back each byte that COM1 receives, plus one; leaves by debug exit 3 after a 'q'."""
    return sector(
        COM1 + b"\xb2\xfd"          # 1: mov dl, 0xfd (line status)
        b"\xec\xa8\x01\x74\xfb"     # 2: in al, dx; test al, 1; jz 2b
        b"\xb2\xf8\xec"             # mov dl, 0xf8; in al, dx
        b"\x3c\x71\x74\x05"         # cmp al, 'q'; je 3f
        b"\xfe\xc0\xee\xeb\xed"     # inc al; out dx, al; jmp 1b
        b"\xb0\x03" + EXIT + HALT   # 3: mov al, 3
    )


def flood():
    """Writes 'x' to COM1 for ever."""
    return sector(COM1 + b"\xb0\x78\xee\xeb\xfd")  # mov al, 'x'; 1: out dx, al; jmp 1b


def flat(body):
    """In flat 32-bit code, interrupts off."""
    word = lambda n: n.to_bytes(2, "little")
    begin = b"\xfa\x31\xc0\x8e\xd8"                           # cli; ds = 0
    flat = b"\x0f\x20\xc0\x0c\x01\x0f\x22\xc0"                # mov eax, cr0; or al, 1; mov cr0, eax
    at = 0x7c00 + len(begin) + 5 + len(flat) + 5
    code = (b"\x66\xb8\x10\x00\x8e\xd8\x8e\xc0\x8e\xd0"     # mov ax, 16; ds, es, ss = ax
            + body)
    gdt = at + len(code) + 6
    return sector(
        begin + b"\x0f\x01\x16" + word(at + len(code)) +        # lgdt
        flat + b"\xea" + word(at) + word(8) +                    # jmp 8:at
        code + word(23) + gdt.to_bytes(4, "little") +
        bytes(8) + bytes.fromhex("ffff0000009acf00") + bytes.fromhex("ffff00000092cf00"))


def flat_flood():
    """Reads COM1's line status for ever, in flat 32-bit code."""
    return flat(b"\xba\xfd\x03\x00\x00\xec\xeb\xfd")  # mov edx, 0x3fd; 1: in al, dx; jmp 1b


def flat_spin():
    """Does nothing for ever, in flat 32-bit code."""
    return flat(b"\x40\xeb\xfd")  # 1: inc eax; jmp 1b


def numbers(count):
    """Writes `count` bytes (0 to 250, over and over) to COM1 as fast as it can, then powers off."""
    return sector(
        b"\x66\xb9" + count.to_bytes(4, "little") +  # mov ecx, count
        COM1 + b"\x30\xc0"                           # xor al, al
        b"\xee\xfe\xc0\x3c\xfb\x72\x02\x30\xc0"      # 1: out dx, al; inc al; cmp al, 251; jb 2f; xor al, al
        b"\x66\x49\x75\xf3"                          # 2: dec ecx; jnz 1b
        + power_off() + HALT
    )


def resets_once():
    """Resets when byte 0x50 of the battery-backed memory is not 0x5a, after setting it; then leaves by exit 5."""
    return sector(
        b"\xb0\x50\xe6\x70\xe4\x71"              # mov al, 0x50; out 0x70, al; in al, 0x71
        b"\x3c\x5a\x74\x08"                      # cmp al, 0x5a; je 1f
        b"\xb0\x5a\xe6\x71" + reset() +          # mov al, 0x5a; out 0x71, al; reset
        b"\xb0\x05" + EXIT + HALT                # 1: mov al, 5
    )


def jumps_nowhere():
    return sector(b"\xea\x00\x00\x00\xb0")  # jmp 0xb000:0: video memory that nobody answers for
