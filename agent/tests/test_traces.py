"""Whether copies of a key are gone from a process, seen from outside of it."""

import subprocess
import sys
from pathlib import Path

import pytest

KEY = bytes(range(100, 164))
CHILD = """
import json, sys
from securecloud_protocol.encoding import b64u_decode, b64u_encode
from securecloud_agent.traces import forget

key = bytes.fromhex(sys.stdin.readline())
message = json.dumps({{"key": b64u_encode(key), "more": "x" * 600}})
held = [json.loads(message)["key"], bytearray(key), b64u_decode(b64u_encode(key))]
for _ in range(50):
    json.loads(message.encode().decode())
    b64u_decode(json.loads(message)["key"])
{then}
print("done", flush=True)
sys.stdin.readline()
print(len(held[1]), flush=True)
"""


@pytest.fixture
def process(request):
    with subprocess.Popen(
        [sys.executable, "-c", CHILD.format(then=request.param)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as child:
        child.stdin.write(KEY.hex().encode() + b"\n")
        assert child.stdout.readline() == b"done\n"
        yield child
        child.stdin.write(b"\n")
        # It still works after what was done to its memory.
        assert child.stdout.readline() == b"64\n"


def copies(pid: int, needle: bytes) -> int:
    found = 0
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if " rw" in line:
                start, end = (int(each, 16) for each in line.split(" ", 1)[0].split("-"))
                memory.seek(start)
                found += memory.read(end - start).count(needle)
    return found


NEEDLES = [KEY[:16], KEY[16:32], KEY[-16:], b"ZGVmZ2hpamtsbW5v"]


@pytest.mark.parametrize("process", [""], indirect=True)
def test_python_leaves_copies_of_what_it_decodes(process):
    assert all(copies(process.pid, needle) > 0 for needle in NEEDLES)


@pytest.mark.parametrize("process", ["forget([None, key])"], indirect=True)
def test_no_copy_of_a_forgotten_key_is_left(process):
    assert [copies(process.pid, needle) for needle in NEEDLES] == [0] * len(NEEDLES)
