"""The upper-case server in Python: `upper.py asyncio|uvloop|threads`. Prints the address it listens at.

As one would write it; `threads` is the founding tutorial's server with a thread for each client.
"""

import socket
import sys
import threading


def serve_loop(run):
    import asyncio

    class Upper(asyncio.Protocol):
        def connection_made(self, transport):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data.upper())

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Upper, "127.0.0.1", 0, backlog=4096)
        tell(server.sockets[0])
        await server.serve_forever()

    run(main())


def serve_threads():
    def talk(conn):
        with conn:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := conn.recv(65536):
                conn.sendall(data.upper())

    def guarded(conn):
        try:
            talk(conn)
        except OSError:
            pass

    server = socket.create_server(("127.0.0.1", 0), backlog=4096)
    tell(server)
    while True:
        conn, _ = server.accept()
        threading.Thread(target=guarded, args=(conn,), daemon=True).start()


def tell(sock):
    print("listening on %s:%d" % sock.getsockname()[:2], flush=True)


if __name__ == "__main__":
    kind = sys.argv[1]
    if kind == "threads":
        serve_threads()
    elif kind == "uvloop":
        import uvloop

        serve_loop(uvloop.run)
    else:
        import asyncio

        serve_loop(asyncio.run)
