-- Schema 6: what the TLS handshakes of conversations agreed on.

PRAGMA user_version = 6;

-- One row for each conversation over TLS.
CREATE TABLE tls (
    conversation   INTEGER PRIMARY KEY, -- conversation.id
    version        TEXT,                -- 1.2 or 1.3; NULL if the handshake failed
    cipher         TEXT,                -- the cipher suite; NULL if the handshake failed
    sni            TEXT,                -- the server name that the client asked for
    alpn           TEXT,                -- the application protocol that was negotiated
    client_subject TEXT,                -- of the certificate that the client presented
    client_sha256  TEXT,                -- of the same: 64 hexadecimal digits
    failure        TEXT                 -- why the handshake failed
) STRICT;
