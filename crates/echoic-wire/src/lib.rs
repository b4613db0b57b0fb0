//! Bytes to and from peers: listen, dial, resolve, and the Link between.
