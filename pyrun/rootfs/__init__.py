"""The container's file system: overlay, mounts, /dev, volumes, masked paths, pivot_root."""
