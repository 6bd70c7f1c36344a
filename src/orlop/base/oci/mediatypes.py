"""Media types of images: OCI image 1.1, and Docker's schema 2 beside it; one place for these constants."""

from __future__ import annotations

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = LAYER + "+gzip"
LAYER_ZSTD = LAYER + "+zstd"
LAYER_NONDIST = "application/vnd.oci.image.layer.nondistributable.v1.tar"
LAYER_NONDIST_GZIP = LAYER_NONDIST + "+gzip"
LAYER_NONDIST_ZSTD = LAYER_NONDIST + "+zstd"
EMPTY = "application/vnd.oci.empty.v1+json"
LAYOUT_HEADER = "application/vnd.oci.layout.header.v1+json"

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"
DOCKER_LAYER_ZSTD = DOCKER_LAYER + ".zstd"
DOCKER_LAYER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_LAYER_FOREIGN_GZIP = DOCKER_LAYER_FOREIGN + ".gzip"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEXES = frozenset({INDEX, DOCKER_LIST})
MANIFESTS = frozenset({MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset({CONFIG, DOCKER_CONFIG})

COMPRESSION: dict[str, str] = {
    LAYER: "none", LAYER_NONDIST: "none", DOCKER_LAYER: "none", DOCKER_LAYER_FOREIGN: "none",
    LAYER_GZIP: "gzip", LAYER_NONDIST_GZIP: "gzip", DOCKER_LAYER_GZIP: "gzip", DOCKER_LAYER_FOREIGN_GZIP: "gzip",
    LAYER_ZSTD: "zstd", LAYER_NONDIST_ZSTD: "zstd", DOCKER_LAYER_ZSTD: "zstd",
}  # fmt: skip
"""Layer media type → how its tar is compressed ("none", "gzip", "zstd")."""

NONDISTRIBUTABLE = frozenset(
    {LAYER_NONDIST, LAYER_NONDIST_GZIP, LAYER_NONDIST_ZSTD, DOCKER_LAYER_FOREIGN, DOCKER_LAYER_FOREIGN_GZIP}
)
LAYERS = frozenset(COMPRESSION)
