//! The nouns and the seams of echoic: endpoint, framing, message, event, filter, service, store.
