-- Schema 5: tags and notes, which people and scripts write on what is recorded. Any process may write these tables, and no
-- other table, beside the one that records.

PRAGMA user_version = 5;

-- Tags of exchanges.
CREATE TABLE exchange_tag (
    exchange INTEGER NOT NULL,          -- exchange.id
    tag      TEXT NOT NULL,
    PRIMARY KEY (exchange, tag)
) STRICT, WITHOUT ROWID;

-- Finds what has a tag without a search of the record.
CREATE INDEX exchange_by_tag ON exchange_tag (tag);

-- Tags of conversations. The filter "tag:" finds each of their exchanges.
CREATE TABLE conversation_tag (
    conversation INTEGER NOT NULL,      -- conversation.id
    tag          TEXT NOT NULL,
    PRIMARY KEY (conversation, tag)
) STRICT, WITHOUT ROWID;

-- Notes, at most one on each.
CREATE TABLE exchange_note (
    exchange INTEGER PRIMARY KEY,       -- exchange.id
    note     TEXT NOT NULL
) STRICT;

CREATE TABLE conversation_note (
    conversation INTEGER PRIMARY KEY,   -- conversation.id
    note         TEXT NOT NULL
) STRICT;
