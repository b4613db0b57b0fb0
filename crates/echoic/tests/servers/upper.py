# The tutorial's upper-case server, in Python 3: one client, recv(1024), without line framing.
import socket

host = "127.0.0.1"
s = socket.socket()
s.bind((host, 0))
s.listen(1)
print(s.getsockname()[1], flush=True)
c, addr = s.accept()
while True:
    data = c.recv(1024)
    if not data:
        break
    data = data.decode().upper()
    c.send(data.encode())
c.close()
