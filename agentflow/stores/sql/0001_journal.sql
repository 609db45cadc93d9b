-- The first schema of the journal. A migration is never changed once released; the next one has the next number.

-- One row: the journal's id, which its marker file repeats.
CREATE TABLE about (id TEXT NOT NULL);
INSERT INTO about VALUES (lower(hex(randomblob(8))));

-- One row for each run, written when the run begins, ends, pauses or is taken, and never for a step.
CREATE TABLE runs (
    number INTEGER PRIMARY KEY,         -- order of acceptance
    run_id TEXT NOT NULL UNIQUE,
    event_id TEXT NOT NULL UNIQUE,
    event_hash TEXT NOT NULL,
    state TEXT NOT NULL,
    status TEXT,
    reason TEXT NOT NULL,
    flags TEXT NOT NULL,                -- JSON array
    pattern TEXT NOT NULL,
    session_id TEXT,
    plan_hash TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    owner TEXT NOT NULL,
    started_at REAL NOT NULL,
    ended_at REAL,
    due_at REAL,
    waiting TEXT NOT NULL,              -- JSON array
    parent_id TEXT,
    root_id TEXT
);
CREATE INDEX open_runs ON runs (number) WHERE state IN ('pending', 'running', 'paused', 'recovering');

-- The records. key = run number * 2^24 + seq, so a run's records lie together and a step touches one page.
CREATE TABLE records (
    key INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    at REAL NOT NULL,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    body BLOB NOT NULL,
    hash BLOB NOT NULL
);

CREATE TABLE snapshots (number INTEGER PRIMARY KEY, seq INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE plans (hash TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;

-- Named leases: the epoch only ever grows.
CREATE TABLE holds (name TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;

PRAGMA application_id = 1634166390;     -- "agfv"
PRAGMA user_version = 1;
