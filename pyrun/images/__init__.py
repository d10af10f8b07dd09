"""The image store: OCI and Docker images loaded, pulled or imported, and unpacked for overlayfs."""
