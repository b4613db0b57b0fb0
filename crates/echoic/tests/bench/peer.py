"""A peer that misbehaves by plan, so that what a generator counts can be held against what was done.

peer.py MODE prints its port and answers lines (or, for `datagrams`, datagrams) in upper case, but

  good     all of them
  alter    every tenth reply has its last letter wrong
  drop     every tenth line is not answered
  double   every reply comes twice
  swap     two lines at a time are answered in the wrong order
  dribble  each reply comes byte by byte
  hang-up  the connection is closed after every tenth reply
  freeze   everything stands still for half a second, once, half a second after the first line
  datagrams  by the number that a datagram begins with: its last two digits select what is done with it, see there
"""

import socket
import sys
import threading
import time

mode = sys.argv[1]
count = 0
frozen = None
lock = threading.Lock()


def serve(peer):
    global count, frozen
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    held = []
    for line in peer.makefile("rb"):
        with lock:
            count += 1
            number = count
            if mode == "freeze":
                now = time.monotonic()
                if frozen is None:
                    frozen = now + 0.5
                if frozen and now >= frozen:
                    frozen = 0
                    time.sleep(0.5)
        reply = line.upper()
        if mode == "alter" and number % 10 == 0:
            reply = reply[:-2] + b"?\n"
        elif mode == "drop" and number % 10 == 0:
            continue
        elif mode == "double":
            reply += reply
        elif mode == "swap":
            held.append(reply)
            if len(held) < 2:
                continue
            reply = held[1] + held[0]
            held = []
        if mode == "dribble":
            for byte in reply:
                peer.sendall(bytes([byte]))
        else:
            peer.sendall(reply)
        if mode == "hang-up" and number % 10 == 0:
            break
    peer.close()


def datagrams(here):
    held = None
    while True:
        datagram, peer = here.recvfrom(65536)
        number = int(datagram.split()[0])
        reply = datagram.upper()
        case = number % 100
        if case == 3:
            continue
        if case == 7:
            held = reply
            continue
        if case == 9:
            reply = reply[:-1]
        if case == 11:
            reply = datagram
        if case == 13:
            threading.Timer(5, here.sendto, (reply, peer)).start()
            continue
        here.sendto(reply, peer)
        if case == 5:
            here.sendto(reply, peer)
        if held:
            here.sendto(held, peer)
            held = None


if mode == "datagrams":
    here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    here.bind(("127.0.0.1", 0))
    print(here.getsockname()[1], flush=True)
    datagrams(here)
else:
    here = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(here.getsockname()[1], flush=True)
    while True:
        peer, _ = here.accept()
        threading.Thread(target=serve, args=(peer,), daemon=True).start()
