# The tutorial's greeting server, in Python 3: thanks each client and closes, without reading.
import socket

s = socket.socket()
s.bind(("", 0))
s.listen(5)
print(s.getsockname()[1], flush=True)
while True:
    c, addr = s.accept()
    c.send(b"Thank you for connecting")
    c.close()
