"""The database's schema, as numbered migrations. A migration that has shipped is never edited; add one.

Times are integers of nanoseconds since the epoch, labels JSON objects, digests their text. Tables that hold what a
namespace sees carry the namespace; `blobs` and `layers` are the files on disk, shared by all.
"""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    # 1: the beginning
    """
    CREATE TABLE namespaces (
        name TEXT PRIMARY KEY, labels TEXT NOT NULL DEFAULT '{}', created_ns INTEGER NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE blobs (              -- files under content/blobs: shared by namespaces
        digest TEXT PRIMARY KEY, size INTEGER NOT NULL, created_ns INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE content (            -- a blob as a namespace sees it
        namespace TEXT NOT NULL, digest TEXT NOT NULL REFERENCES blobs(digest),
        labels TEXT NOT NULL DEFAULT '{}', created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
        PRIMARY KEY (namespace, digest)
    ) WITHOUT ROWID;
    CREATE INDEX content_by_digest ON content(digest);

    CREATE TABLE images (
        namespace TEXT NOT NULL, name TEXT NOT NULL,
        digest TEXT NOT NULL, target TEXT NOT NULL,      -- target: the descriptor as JSON
        labels TEXT NOT NULL DEFAULT '{}', created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
    ) WITHOUT ROWID;
    CREATE INDEX images_by_digest ON images(namespace, digest);

    CREATE TABLE containers (
        namespace TEXT NOT NULL, id TEXT NOT NULL, name TEXT,
        image TEXT NOT NULL DEFAULT '', image_digest TEXT NOT NULL DEFAULT '',
        runtime TEXT NOT NULL DEFAULT '', runtime_options TEXT NOT NULL DEFAULT '{}',
        spec BLOB NOT NULL DEFAULT x'', snapshotter TEXT NOT NULL DEFAULT '', snapshot_key TEXT NOT NULL DEFAULT '',
        sandbox_id TEXT NOT NULL DEFAULT '',
        labels TEXT NOT NULL DEFAULT '{}', extensions TEXT NOT NULL DEFAULT '{}',
        created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
        PRIMARY KEY (namespace, id), UNIQUE (namespace, name)
    );

    CREATE TABLE leases (
        namespace TEXT NOT NULL, id TEXT NOT NULL, labels TEXT NOT NULL DEFAULT '{}', created_ns INTEGER NOT NULL,
        PRIMARY KEY (namespace, id)
    ) WITHOUT ROWID;
    CREATE TABLE lease_resources (
        namespace TEXT NOT NULL, lease TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,
        PRIMARY KEY (namespace, lease, type, id),
        FOREIGN KEY (namespace, lease) REFERENCES leases(namespace, id) ON DELETE CASCADE
    ) WITHOUT ROWID;

    CREATE TABLE layers (             -- directories under layers/: shared by namespaces
        diff_id TEXT PRIMARY KEY, form TEXT NOT NULL, path TEXT NOT NULL,   -- path: relative to the root
        size INTEGER NOT NULL, inodes INTEGER NOT NULL, tar_size INTEGER NOT NULL, created_ns INTEGER NOT NULL,
        implied TEXT NOT NULL DEFAULT '[]', foreign_links TEXT NOT NULL DEFAULT '[]'
    ) WITHOUT ROWID;
    CREATE TABLE snapshots (
        number INTEGER PRIMARY KEY AUTOINCREMENT,        -- names its directory; never used again
        snapshotter TEXT NOT NULL, namespace TEXT NOT NULL, key TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
        parent INTEGER REFERENCES snapshots(number),     -- restricts: a parent cannot go
        diff_id TEXT REFERENCES layers(diff_id),         -- the layer `stack` put on the parent, if any
        labels TEXT NOT NULL DEFAULT '{}', created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
        size INTEGER, inodes INTEGER,                    -- usage, once committed
        UNIQUE (snapshotter, namespace, key)
    );
    CREATE INDEX snapshots_by_parent ON snapshots(parent);
    CREATE INDEX snapshots_by_layer ON snapshots(diff_id);

    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, time_ns INTEGER NOT NULL,
        namespace TEXT NOT NULL, topic TEXT NOT NULL, payload TEXT NOT NULL
    );
    """,
    # 2: volumes
    """
    CREATE TABLE volumes (
        namespace TEXT NOT NULL, name TEXT NOT NULL, driver TEXT NOT NULL, options TEXT NOT NULL DEFAULT '{}',
        labels TEXT NOT NULL DEFAULT '{}', anonymous INTEGER NOT NULL, created_ns INTEGER NOT NULL,
        PRIMARY KEY (namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE volume_uses (        -- a container's, for as long as it has a row
        namespace TEXT NOT NULL, container TEXT NOT NULL, volume TEXT NOT NULL,
        PRIMARY KEY (namespace, container, volume),
        FOREIGN KEY (namespace, container) REFERENCES containers(namespace, id) ON DELETE CASCADE,
        FOREIGN KEY (namespace, volume) REFERENCES volumes(namespace, name)
    ) WITHOUT ROWID;
    CREATE INDEX volume_uses_by_volume ON volume_uses(namespace, volume);
    """,
    # 2: networks, and what a container is on one of them
    """
    CREATE TABLE networks (
        id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, driver TEXT NOT NULL,
        subnet TEXT NOT NULL DEFAULT '', gateway TEXT NOT NULL DEFAULT '', ip_range TEXT NOT NULL DEFAULT '',
        subnet6 TEXT NOT NULL DEFAULT '', gateway6 TEXT NOT NULL DEFAULT '', internal INTEGER NOT NULL DEFAULT 0,
        last INTEGER NOT NULL DEFAULT 0,                 -- where the last address was given: the next is after it
        options TEXT NOT NULL DEFAULT '{}', labels TEXT NOT NULL DEFAULT '{}', created_ns INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE endpoints (
        container TEXT NOT NULL, network TEXT NOT NULL REFERENCES networks(id),
        name TEXT NOT NULL DEFAULT '', aliases TEXT NOT NULL DEFAULT '[]',
        netns TEXT NOT NULL, interface TEXT NOT NULL, link TEXT NOT NULL,    -- link: the host's end of the veth pair
        address TEXT NOT NULL, address6 TEXT NOT NULL DEFAULT '', mac TEXT NOT NULL,
        ports TEXT NOT NULL DEFAULT '[]', created_ns INTEGER NOT NULL,
        PRIMARY KEY (container, network), UNIQUE (network, address), UNIQUE (container, interface)
    ) WITHOUT ROWID;
    """,
)
