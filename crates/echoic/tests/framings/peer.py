"""Sends messages under one framing and receives the replies under another, with encoders of its own.

peer.py MAPPING PORT INBOUND/OUTBOUND...: at each port in three ways: a write a message, a write a byte, one write for all. What
is to come back is each message as MAPPING (echo, upper) has it. Prints how many there were.
"""

import asyncio
import socket
import struct
import sys

WIDTHS = {"u8": ">B", "u16be": ">H", "u16le": "<H", "u32be": ">I", "u32le": "<I"}
ENDS = {"line": b"\n", "crlf": b"\r\n", "nul": b"\0"}


def end_of(framing):
    if framing.startswith("delim:"):
        return bytes.fromhex(framing.removeprefix("delim:"))
    return ENDS.get(framing)


def encode(framing, body):
    if framing in WIDTHS:
        return struct.pack(WIDTHS[framing], len(body)) + body
    if end := end_of(framing):
        return body + end
    if framing == "varint":
        length, groups = len(body), bytearray()
        while length > 127:
            groups.append(length % 128 + 128)
            length //= 128
        return bytes(groups) + bytes([length]) + body
    if framing == "netstring":
        return b"%d:%s," % (len(body), body)
    if framing == "content-length":
        return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    assert framing.startswith("fixed:"), framing
    assert len(body) == int(framing.removeprefix("fixed:"))
    return body


async def decode(framing, reader):
    if framing in WIDTHS:
        head = await reader.readexactly(struct.calcsize(WIDTHS[framing]))
        return await reader.readexactly(*struct.unpack(WIDTHS[framing], head))
    if end := end_of(framing):
        return (await reader.readuntil(end)).removesuffix(end)
    if framing == "varint":
        length = shift = 0
        while True:
            group = (await reader.readexactly(1))[0]
            length += group % 128 << shift
            shift += 7
            if group < 128:
                return await reader.readexactly(length)
    if framing == "netstring":
        length = (await reader.readuntil(b":"))[:-1]
        assert length == str(int(length)).encode(), length
        body = await reader.readexactly(int(length))
        assert await reader.readexactly(1) == b","
        return body
    if framing == "content-length":
        name, length = (await reader.readuntil(b"\r\n\r\n")).split(b":")
        assert name == b"Content-Length", name
        return await reader.readexactly(int(length))
    return await reader.readexactly(int(framing.removeprefix("fixed:")))


def bodies(inbound, outbound):
    """Messages that both framings can hold: none, one byte, text, bytes that are no text, and as many as u8 can announce."""
    if inbound.startswith("fixed:"):
        size = int(inbound.removeprefix("fixed:"))
        return [(text * size)[:size] for text in (b"a", "straßen ".encode(), bytes(range(1, 256)))]
    some = [b"", b"x", "straße".encode(), b"", bytes(range(256)).replace(b"\r", b"")[:250], b"\xff\xfe", b"a" * 255]
    ends = [end for end in (end_of(inbound), end_of(outbound)) if end]
    assert all(len(body) < 256 for body in some)
    for end in ends:
        some = [body.replace(end, b"") for body in some]
    return some


def upper(body):
    """Text in upper case; what is no text stays as it is, as the server has it."""
    return body.decode(errors="surrogateescape").upper().encode(errors="surrogateescape")


async def talk(mapping, port, frames, way):
    inbound, _, outbound = frames.partition("/")
    outbound = outbound or inbound
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    messages = bodies(inbound, outbound)
    frames = [encode(inbound, body) for body in messages]
    if way == "pipelined":
        writer.write(b"".join(frames))
    for body, frame in zip(messages, frames):
        for i in range(len(frame) if way == "bytes" else 0):
            writer.write(frame[i:i + 1])
            # Sleeps so that each byte is a separate write, and usually a separate read.
            await writer.drain()
            await asyncio.sleep(0)
        if way == "whole":
            writer.write(frame)
        answer = await asyncio.wait_for(decode(outbound, reader), 20)
        expected = upper(body) if mapping == "upper" else body
        assert answer == expected, (inbound, outbound, way, body, answer)
    writer.write_eof()
    rest = await asyncio.wait_for(reader.read(), 20)
    assert rest == b"", (inbound, outbound, way, rest)
    writer.close()
    return len(messages)


async def main():
    mapping, *places = sys.argv[1:]
    talks = [
        talk(mapping, port, frames, way)
        for port, frames in zip(places[::2], places[1::2])
        for way in ("whole", "bytes", "pipelined")
    ]
    print(sum(await asyncio.gather(*talks)))


asyncio.run(main())
