-- Schema 4: bytes that made no message.

PRAGMA user_version = 4;

-- What a conversation received that made no message, because it ended inside one or its bytes do not follow the framing.
CREATE TABLE left_over (
    conversation INTEGER PRIMARY KEY,   -- conversation.id
    total        INTEGER NOT NULL,      -- how many bytes
    claimed      INTEGER,               -- length of the message by its header, or by the framing; NULL without one
    bytes        BLOB NOT NULL          -- the first 4096 of them
) STRICT;
