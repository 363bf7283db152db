"""A file system of its own, and changes to files that no node would make."""

import contextlib
import os
import pathlib
import subprocess

MIB = 1 << 20


class Disk:
    """An ext4 in an image behind a loop device."""

    def __init__(self, image, path, size=600 * MIB):
        self.image = pathlib.Path(image)
        self.path = pathlib.Path(path)
        self.size = size
        self.is_mounted = False

    def mount(self):
        self.path.mkdir()
        with self.image.open("wb") as image:
            image.truncate(self.size)
        # No blocks are reserved for root: free space is the same for everyone.
        options = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]
        subprocess.run(["mkfs.ext4", *options, self.image], check=True)
        subprocess.run(["mount", "-o", "loop", self.image, self.path], check=True)
        self.is_mounted = True

    def unmount(self):
        if self.is_mounted:
            # The loop device goes with the mount.
            if subprocess.run(["umount", self.path]).returncode != 0:
                subprocess.run(["umount", "-l", self.path], check=True)
        self.image.unlink(missing_ok=True)

    def free(self):
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def fill(self, leave=0):
        """Takes all space but `leave` bytes; gives the file that has it."""
        ballast = self.path / "ballast-of-the-test"
        with ballast.open("ab") as file, contextlib.suppress(OSError):
            while (size := self.free() - leave) > 0:
                os.posix_fallocate(file.fileno(), file.seek(0, 2), max(size // 2, 4096))
        return ballast


def flip(path, offset, bit=0):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << bit]))


def overwrite(path, offset, data):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def fingerprint(directory):
    """Everything about the files of a directory that an open must not change."""
    found = {}
    for path in sorted(directory.iterdir()):
        status = path.stat()
        found[path.name] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return found


CRC32C = []
for _byte in range(256):
    for _ in range(8):
        _byte = _byte >> 1 ^ (0x82F63B78 if _byte & 1 else 0)
    CRC32C.append(_byte)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def chunks(path):
    """Offset, size on disk and number of records of every chunk, by their headers' magic."""
    data = path.read_bytes()
    found = []
    offset = 512
    while data[offset : offset + 4] == b"SCHK":
        size = 64 + int.from_bytes(data[offset + 32 : offset + 36], "little")
        records = int.from_bytes(data[offset + 36 : offset + 40], "little")
        size = -(-size // 512) * 512
        found.append((offset, size, records))
        offset += size
    return found


def listed_segments(checkpoint):
    """Names of the segments that a checkpoint says are needed."""
    data = checkpoint.read_bytes()
    count = int.from_bytes(data[112:116], "little")
    starts = [128 + 24 * number for number in range(count)]
    return [f"segment-{int.from_bytes(data[at : at + 8], 'little'):016}" for at in starts]


def first_young(checkpoint):
    """Name of the first young file that a checkpoint needs."""
    return f"young-{int.from_bytes(checkpoint.read_bytes()[80:88], 'little'):016}"
